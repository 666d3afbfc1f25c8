with airports as (

    select * from {{ ref('int_airports_supplemented') }}

)

select
    airport_code,
    airport_name,
    latitude,
    longitude,
    altitude_feet,
    utc_offset_hours,
    daylight_saving,
    time_zone
from airports
