select
    carrier,
    count(*) as flights,
    avg(dep_delay) as dep_delay
from {{ ref('stg_flights') }}
group by carrier
