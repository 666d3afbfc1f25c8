with flights as (

    select * from {{ ref('fct_flights') }}

),

airports as (

    select * from {{ ref('dim_airports') }}

),

measured as (

    select
        origin_airport_code,
        destination_airport_code,
        -- Two routes, both to EGE, come with two distances one mile apart.
        max(distance_miles) as distance_miles,
        {{ delay_measures() }}
    from flights
    group by origin_airport_code, destination_airport_code

)

select
    concat_ws('-', measured.origin_airport_code, measured.destination_airport_code) as route_id,
    measured.origin_airport_code,
    origins.airport_name as origin_airport_name,
    measured.destination_airport_code,
    destinations.airport_name as destination_airport_name,
    measured.distance_miles,
    measured.flights,
    measured.cancelled_flights,
    measured.cancelled_share,
    measured.avg_departure_delay_minutes,
    measured.avg_arrival_delay_minutes,
    measured.median_arrival_delay_minutes,
    measured.late_flights,
    measured.late_share
from measured
left join airports as origins on measured.origin_airport_code = origins.airport_code
left join airports as destinations on measured.destination_airport_code = destinations.airport_code
