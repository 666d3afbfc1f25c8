{# A relationship that real data keeps only mostly: fails when less than `at_least` of the rows have a parent. #}
{% test relationship_coverage(model, column_name, to, field, at_least) %}

with child as (

    select {{ column_name }} as child_key
    from {{ model }}
    where {{ column_name }} is not null

),

coverage as (

    select
        count(*) as child_rows,
        count(parent.{{ field }}) as covered_rows
    from child
    left join {{ to }} as parent on child.child_key = parent.{{ field }}

)

select *
from coverage
where covered_rows < {{ at_least }} * child_rows

{% endtest %}
