{{ config(materialized='table') }}

select
    customer_id,
    min(ordered_on) as first_ordered_on,
    count(*) as orders,
    sum(amount) as amount
from {{ ref('fct_orders') }}
group by customer_id
