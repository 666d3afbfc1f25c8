with flights as (

    select * from {{ ref('fct_flights') }}

),

conditions as (

    select * from {{ ref('int_weather_conditions') }}

),

flights_with_weather as (

    select
        flights.is_cancelled,
        flights.is_late,
        flights.departure_delay_minutes,
        flights.arrival_delay_minutes,
        coalesce(conditions.weather_condition, 'unknown') as weather_condition
    from flights
    left join conditions
        on
            flights.origin_airport_code = conditions.airport_code
            and flights.scheduled_departure_hour_at = conditions.observed_hour_at

)

select
    weather_condition,
    {{ delay_measures() }}
from flights_with_weather
group by weather_condition
