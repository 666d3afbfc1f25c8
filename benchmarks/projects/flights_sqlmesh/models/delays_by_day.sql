MODEL (name main.delays_by_day, kind FULL);

SELECT flight_date, COUNT(*) AS flights, AVG(dep_delay) AS dep_delay
FROM main.stg_flights
GROUP BY flight_date
