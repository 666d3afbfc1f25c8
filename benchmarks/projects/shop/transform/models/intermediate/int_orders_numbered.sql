select
    *,
    row_number() over (partition by customer_id order by ordered_on, order_id) as order_number
from {{ ref('stg_orders') }}
