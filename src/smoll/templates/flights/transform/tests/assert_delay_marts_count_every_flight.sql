-- Each delay mart cuts the same flights in another way, so each must add up to all of them.
with expected as (

    select count(*) as flights from {{ ref('fct_flights') }}

),

totals as (

    select 'delays_by_carrier' as mart, sum(flights) as flights from {{ ref('delays_by_carrier') }}
    union all
    select 'delays_by_route' as mart, sum(flights) as flights from {{ ref('delays_by_route') }}
    union all
    select 'delays_by_hour' as mart, sum(flights) as flights from {{ ref('delays_by_hour') }}
    union all
    select 'delays_by_weather' as mart, sum(flights) as flights from {{ ref('delays_by_weather') }}

)

select
    totals.mart,
    totals.flights,
    expected.flights as expected_flights
from totals
cross join expected
where totals.flights <> expected.flights
