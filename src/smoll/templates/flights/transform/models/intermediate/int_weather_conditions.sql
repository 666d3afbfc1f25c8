with observations as (

    select * from {{ ref('stg_nyc__weather') }}

),

classified as (

    select
        airport_code,
        observed_hour_at,
        case
            when precipitation_inches > 0 and temperature_fahrenheit <= 32 then 'snow'
            when precipitation_inches > 0 then 'rain'
            when visibility_miles < 1 then 'fog'
            when wind_speed_mph >= 25 then 'wind'
            else 'fair'
        end as weather_condition
    from observations

)

select * from classified
