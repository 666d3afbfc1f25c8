-- The incremental fact must hold what a full rebuild would hold: the same flights, the same minutes of delay.
with staged as (

    select
        flight_month,
        count(*) as flights,
        sum(arrival_delay_minutes) as arrival_delay_minutes
    from {{ ref('stg_nyc__flights') }}
    group by flight_month

),

built as (

    select
        flight_month,
        count(*) as flights,
        sum(arrival_delay_minutes) as arrival_delay_minutes
    from {{ ref('fct_flights') }}
    group by flight_month

)

select
    flight_month,
    staged.flights as staged_flights,
    built.flights as built_flights,
    staged.arrival_delay_minutes as staged_arrival_delay_minutes,
    built.arrival_delay_minutes as built_arrival_delay_minutes
from staged
full outer join built using (flight_month)
where
    staged.flights is distinct from built.flights
    or staged.arrival_delay_minutes is distinct from built.arrival_delay_minutes
