MODEL (
  name main.delays_by_carrier,
  kind FULL,
  audits (not_null(columns := (carrier)), unique_values(columns := (carrier)))
);

SELECT carrier, COUNT(*) AS flights, AVG(dep_delay) AS dep_delay
FROM main.stg_flights
GROUP BY carrier
