with source as (

    select * from {{ source('nyc', 'planes') }}

),

renamed as (

    select
        tailnum as tail_number,
        year as manufactured_year,
        type as plane_type,
        manufacturer,
        model,
        engines,
        seats,
        speed as cruising_speed_mph,
        engine as engine_type
    from source

)

select * from renamed
