with flights as (

    select * from {{ ref('fct_flights') }}

)

select
    scheduled_departure_hour,
    {{ delay_measures() }}
from flights
group by scheduled_departure_hour
