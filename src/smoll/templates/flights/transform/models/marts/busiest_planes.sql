with flights as (

    select *
    from {{ ref('fct_flights') }}
    where not is_cancelled

),

planes as (

    select * from {{ ref('dim_planes') }}

),

flown as (

    select
        tail_number,
        count(*) as flights,
        count(distinct carrier_code) as carriers,
        count(distinct destination_airport_code) as destinations,
        sum(distance_miles) as flown_miles,
        round(sum(air_time_minutes) / 60.0, 1) as flown_hours,
        round(avg(departure_delay_minutes), 1) as avg_departure_delay_minutes,
        min(flight_date) as first_flight_date,
        max(flight_date) as last_flight_date
    from flights
    where tail_number is not null
    group by tail_number

)

select
    flown.tail_number,
    rank() over (order by flown.flights desc) as flights_rank,
    planes.manufacturer,
    planes.model,
    planes.manufactured_year,
    planes.seats,
    flown.flights,
    flown.carriers,
    flown.destinations,
    flown.flown_miles,
    flown.flown_hours,
    flown.avg_departure_delay_minutes,
    flown.first_flight_date,
    flown.last_flight_date
from flown
left join planes on flown.tail_number = planes.tail_number
