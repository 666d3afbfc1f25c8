select
    make_date(year, month, day) as flight_date,
    carrier,
    origin,
    dest,
    try_cast(dep_delay as integer) as dep_delay -- text with NA where the loader does not know missing values
from {{ source('nyc', 'flights') }}
