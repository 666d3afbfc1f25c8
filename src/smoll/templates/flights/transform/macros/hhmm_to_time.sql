{# 2400 is midnight at the end of the day; a TIME has only 00:00 for it. #}
{% macro hhmm_to_time(column) -%}
    make_time(
        cast(mod(({{ column }} - mod({{ column }}, 100)) / 100, 24) as integer),
        cast(mod({{ column }}, 100) as integer),
        0
    )
{%- endmacro %}
