MODEL (
  name main.stg_flights,
  kind VIEW,
  audits (accepted_values(column := origin, is_in := ('EWR', 'JFK', 'LGA')))
);

SELECT
  MAKE_DATE(year, month, day) AS flight_date,
  carrier,
  origin,
  dest,
  TRY_CAST(dep_delay AS INT) AS dep_delay
FROM raw_nyc.flights
