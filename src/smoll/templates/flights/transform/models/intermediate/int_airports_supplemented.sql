with airports as (

    select * from {{ ref('stg_nyc__airports') }}

),

supplement as (

    select
        faa as airport_code,
        name as airport_name,
        lat as latitude,
        lon as longitude,
        alt as altitude_feet,
        tz as utc_offset_hours,
        dst as daylight_saving,
        tzone as time_zone
    from {{ ref('airports_supplement') }}

),

missing as (

    select supplement.*
    from supplement
    left join airports on supplement.airport_code = airports.airport_code
    where airports.airport_code is null

)

select * from airports
union all
select * from missing
