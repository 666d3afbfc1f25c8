{#
    Flights come as one file per month, and a changed file replaces all of its rows. So a month is the unit
    that is rebuilt: every month that differs from what was built is deleted and inserted whole. Late rows,
    mended rows and rows that a mended file no longer has come out as in a full refresh, and a run without
    new data changes nothing. unique_key names that unit here, not a row; a row's key is flight_id.

    A month differs when its count or the sum of its load numbers does: a newer load has a higher number, so
    rows replaced one for one raise the sum. A month that loses all its rows stays until
    `smoll run --full-refresh`; assert_fct_flights_matches_staging refuses the release until then.
#}
{{
    config(
        materialized='incremental',
        incremental_strategy='delete+insert',
        unique_key='flight_month',
        on_schema_change='fail',
    )
}}

with flights as (

    select * from {{ ref('stg_nyc__flights') }}

),

{% if is_incremental() %}

differing_months as (

    select
        flight_month,
        count(*) as flights,
        sum(_smoll_load_id) as load_ids
    from flights
    group by flight_month
    except
    select
        flight_month,
        count(*) as flights,
        sum(_smoll_load_id) as load_ids
    from {{ this }}
    group by flight_month

),

{% endif %}

final as (

    select
        flight_id,
        carrier_code,
        flight_number,
        tail_number,
        origin_airport_code,
        destination_airport_code,
        flight_date,
        flight_month,
        scheduled_departure_hour,
        scheduled_departure_time,
        departure_time,
        scheduled_arrival_time,
        arrival_time,
        scheduled_departure_hour_at,
        scheduled_departure_at,
        departure_delay_minutes,
        arrival_delay_minutes,
        air_time_minutes,
        distance_miles,
        is_cancelled,
        is_diverted,
        arrival_delay_minutes >= 15 as is_late,
        _smoll_load_id
    from flights
    {% if is_incremental() %}
    where flight_month in (select differing_months.flight_month from differing_months)
    {% endif %}

)

select * from final
