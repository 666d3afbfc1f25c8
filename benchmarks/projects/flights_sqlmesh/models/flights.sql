MODEL (name raw_nyc.flights, kind FULL);

SELECT * FROM READ_CSV(@csv, nullstr := ['', 'NA'])
