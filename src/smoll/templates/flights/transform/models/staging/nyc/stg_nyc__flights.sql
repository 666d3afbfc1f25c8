with source as (

    select * from {{ source('nyc', 'flights') }}

),

dated as (

    select
        *,
        make_date(cast(year as integer), cast(month as integer), cast(day as integer)) as flight_date,
        time_hour at time zone 'UTC' as scheduled_departure_hour_at
    from source

),

renamed as (

    select
        -- keys
        concat_ws('-', flight_date, carrier, flight, origin) as flight_id,
        carrier as carrier_code,
        flight as flight_number,
        tailnum as tail_number,
        origin as origin_airport_code,
        dest as destination_airport_code,

        -- local calendar and clock; arrivals are in the time zone of the destination
        flight_date,
        cast(date_trunc('month', flight_date) as date) as flight_month,
        hour as scheduled_departure_hour,
        {{ hhmm_to_time('sched_dep_time') }} as scheduled_departure_time,
        {{ hhmm_to_time('dep_time') }} as departure_time,
        {{ hhmm_to_time('sched_arr_time') }} as scheduled_arrival_time,
        {{ hhmm_to_time('arr_time') }} as arrival_time,

        -- UTC
        scheduled_departure_hour_at,
        scheduled_departure_hour_at + minute * interval '1 minute' as scheduled_departure_at,

        -- measures
        dep_delay as departure_delay_minutes,
        arr_delay as arrival_delay_minutes,
        air_time as air_time_minutes,
        distance as distance_miles,

        -- states
        dep_time is null as is_cancelled,
        dep_time is not null and arr_delay is null as is_diverted,

        _smoll_load_id
    from dated

)

select * from renamed
