with source as (

    select * from {{ source('nyc', 'airlines') }}

),

renamed as (

    select
        carrier as carrier_code,
        name as carrier_name
    from source

)

select * from renamed
