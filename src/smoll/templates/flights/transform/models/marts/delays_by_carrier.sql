with flights as (

    select * from {{ ref('fct_flights') }}

),

carriers as (

    select * from {{ ref('dim_carriers') }}

),

measured as (

    select
        carrier_code,
        {{ delay_measures() }}
    from flights
    group by carrier_code

)

select
    measured.carrier_code,
    carriers.carrier_name,
    measured.flights,
    measured.cancelled_flights,
    measured.cancelled_share,
    measured.avg_departure_delay_minutes,
    measured.avg_arrival_delay_minutes,
    measured.median_arrival_delay_minutes,
    measured.late_flights,
    measured.late_share
from measured
left join carriers on measured.carrier_code = carriers.carrier_code
