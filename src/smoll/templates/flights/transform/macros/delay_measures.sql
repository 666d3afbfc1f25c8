{# One definition of "late" and "cancelled" for every delay mart. #}
{% macro delay_measures() -%}
    count(*) as flights,
    count(*) filter (where is_cancelled) as cancelled_flights,
    round(1.0 * count(*) filter (where is_cancelled) / count(*), 4) as cancelled_share,
    round(avg(departure_delay_minutes), 1) as avg_departure_delay_minutes,
    round(avg(arrival_delay_minutes), 1) as avg_arrival_delay_minutes,
    percentile_cont(0.5) within group (order by arrival_delay_minutes) as median_arrival_delay_minutes,
    count(*) filter (where is_late) as late_flights,
    round(1.0 * count(*) filter (where is_late) / nullif(count(arrival_delay_minutes), 0), 4) as late_share
{%- endmacro %}
