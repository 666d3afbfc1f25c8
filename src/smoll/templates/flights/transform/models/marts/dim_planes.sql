with versions as (

    select * from {{ ref('snap_nyc__planes') }}

)

select
    tail_number,
    manufactured_year,
    plane_type,
    manufacturer,
    model,
    engines,
    seats,
    cruising_speed_mph,
    engine_type
from versions
where dbt_valid_to is null
