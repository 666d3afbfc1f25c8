with airlines as (

    select * from {{ ref('stg_nyc__airlines') }}

)

select
    carrier_code,
    carrier_name
from airlines
