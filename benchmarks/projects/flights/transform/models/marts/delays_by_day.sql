select
    flight_date,
    count(*) as flights,
    avg(dep_delay) as dep_delay
from {{ ref('stg_flights') }}
group by flight_date
