with source as (

    select * from {{ source('nyc', 'weather') }}

),

renamed as (

    select
        -- keys
        concat_ws('-', origin, time_hour at time zone 'UTC') as weather_observation_id,
        origin as airport_code,
        time_hour at time zone 'UTC' as observed_hour_at,

        -- measures
        temp as temperature_fahrenheit,
        dewp as dew_point_fahrenheit,
        humid as relative_humidity_percent,
        wind_dir as wind_direction_degrees,
        -- A broken sensor reported 1,048 mph at Newark on 12 February; the strongest gust on record is 253.
        case when wind_speed <= 253 then wind_speed end as wind_speed_mph,
        wind_gust as wind_gust_mph,
        precip as precipitation_inches,
        pressure as pressure_millibars,
        visib as visibility_miles
    from source

)

select * from renamed
