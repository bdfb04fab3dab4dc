-- Ordinary statements: an ORM's, a BI tool's, and what drivers and tools ask, one a line, in this order.
SELECT "customers"."id", "customers"."name", "customers"."born", "customers"."balance" FROM "customers"
SELECT "customers"."id", "customers"."name", "customers"."born", "customers"."balance" FROM "customers" WHERE "customers"."id" = 1 LIMIT 21
SELECT "customers"."id", "customers"."name", "customers"."born", "customers"."balance" FROM "customers" WHERE "customers"."id" IN (1, 2, 3)
SELECT "customers"."id", "customers"."name", "customers"."born", "customers"."balance" FROM "customers" ORDER BY "customers"."id" ASC LIMIT 1
SELECT "customers"."id", "customers"."name", "customers"."born", "customers"."balance" FROM "customers" ORDER BY "customers"."name" DESC LIMIT 10 OFFSET 20
SELECT "customers"."id", "customers"."name", "customers"."born", "customers"."balance" FROM "customers" WHERE NOT ("customers"."name" = 'x')
SELECT "customers"."id", "customers"."name", "customers"."born", "customers"."balance" FROM "customers" WHERE "customers"."name" LIKE 'na%' ESCAPE '\'
SELECT "customers"."id", "customers"."name", "customers"."born", "customers"."balance" FROM "customers" WHERE UPPER("customers"."name"::text) LIKE UPPER('na%')
SELECT "customers"."id", "customers"."name", "customers"."born", "customers"."balance" FROM "customers" WHERE "customers"."born" >= '2000-01-01'::date
SELECT "customers"."id", "customers"."name", "customers"."born", "customers"."balance" FROM "customers" WHERE "customers"."balance" BETWEEN 1 AND 5000
SELECT "customers"."id", "customers"."name", "customers"."born", "customers"."balance" FROM "customers" WHERE "customers"."email" IS NOT NULL
SELECT "customers"."id", "customers"."name", "customers"."born", "customers"."balance" FROM "customers" WHERE "customers"."born" IS NULL
SELECT DISTINCT ON ("customers"."name") "customers"."name", "customers"."id" FROM "customers" ORDER BY "customers"."name", "customers"."id"
SELECT "customers"."id", "customers"."name", "customers"."born", "customers"."balance" FROM "customers" FOR UPDATE
SELECT "customers"."id", "customers"."name", "customers"."born", "customers"."balance" FROM "customers" WHERE "customers"."id" > 1 FOR SHARE SKIP LOCKED
SELECT "customers"."id", "customers"."name", "customers"."born", "customers"."balance" FROM "customers" INNER JOIN "orders" ON ("customers"."id" = "orders"."customer_id") WHERE "orders"."status" = 'open'
SELECT "customers"."id", "customers"."name", "customers"."born", "customers"."balance", "orders"."id", "orders"."total" FROM "customers" LEFT OUTER JOIN "orders" ON ("customers"."id" = "orders"."customer_id")
SELECT "customers"."id", "customers"."name", "customers"."born", "customers"."balance" FROM "customers" WHERE EXISTS(SELECT 1 AS "a" FROM "orders" U0 WHERE U0."customer_id" = ("customers"."id") LIMIT 1)
SELECT "customers"."id", "customers"."name", "customers"."born", "customers"."balance" FROM "customers" WHERE "customers"."id" IN (SELECT "orders"."customer_id" FROM "orders" WHERE "orders"."total" > 10)
SELECT "customers"."id", "customers"."name", "customers"."born", "customers"."balance" FROM "customers" WHERE "customers"."id" = ANY(ARRAY[1,2])
SELECT "customers"."id", "customers"."name", "customers"."email", "customers"."phone", "customers"."born", "customers"."seen", "customers"."balance", "customers"."doc", "customers"."uid" FROM "customers"
SELECT "customers"."id", "customers"."name", "customers"."email", "customers"."phone", "customers"."born", "customers"."seen", "customers"."balance", "customers"."doc", "customers"."uid" FROM "customers" WHERE "customers"."id" = 1 LIMIT 21
SELECT "customers"."id", "customers"."name", "customers"."email", "customers"."phone", "customers"."born", "customers"."seen", "customers"."balance", "customers"."doc", "customers"."uid" FROM "customers" WHERE "customers"."id" IN (1, 2, 3)
SELECT "customers"."id", "customers"."name", "customers"."email", "customers"."phone", "customers"."born", "customers"."seen", "customers"."balance", "customers"."doc", "customers"."uid" FROM "customers" ORDER BY "customers"."id" ASC LIMIT 1
SELECT "customers"."id", "customers"."name", "customers"."email", "customers"."phone", "customers"."born", "customers"."seen", "customers"."balance", "customers"."doc", "customers"."uid" FROM "customers" ORDER BY "customers"."name" DESC LIMIT 10 OFFSET 20
SELECT "customers"."id", "customers"."name", "customers"."email", "customers"."phone", "customers"."born", "customers"."seen", "customers"."balance", "customers"."doc", "customers"."uid" FROM "customers" WHERE NOT ("customers"."name" = 'x')
SELECT "customers"."id", "customers"."name", "customers"."email", "customers"."phone", "customers"."born", "customers"."seen", "customers"."balance", "customers"."doc", "customers"."uid" FROM "customers" WHERE "customers"."name" LIKE 'na%' ESCAPE '\'
SELECT "customers"."id", "customers"."name", "customers"."email", "customers"."phone", "customers"."born", "customers"."seen", "customers"."balance", "customers"."doc", "customers"."uid" FROM "customers" WHERE UPPER("customers"."name"::text) LIKE UPPER('na%')
SELECT "customers"."id", "customers"."name", "customers"."email", "customers"."phone", "customers"."born", "customers"."seen", "customers"."balance", "customers"."doc", "customers"."uid" FROM "customers" WHERE "customers"."born" >= '2000-01-01'::date
SELECT "customers"."id", "customers"."name", "customers"."email", "customers"."phone", "customers"."born", "customers"."seen", "customers"."balance", "customers"."doc", "customers"."uid" FROM "customers" WHERE "customers"."balance" BETWEEN 1 AND 5000
SELECT "customers"."id", "customers"."name", "customers"."email", "customers"."phone", "customers"."born", "customers"."seen", "customers"."balance", "customers"."doc", "customers"."uid" FROM "customers" WHERE "customers"."email" IS NOT NULL
SELECT "customers"."id", "customers"."name", "customers"."email", "customers"."phone", "customers"."born", "customers"."seen", "customers"."balance", "customers"."doc", "customers"."uid" FROM "customers" WHERE "customers"."born" IS NULL
SELECT DISTINCT ON ("customers"."name") "customers"."name", "customers"."id" FROM "customers" ORDER BY "customers"."name", "customers"."id"
SELECT "customers"."id", "customers"."name", "customers"."email", "customers"."phone", "customers"."born", "customers"."seen", "customers"."balance", "customers"."doc", "customers"."uid" FROM "customers" FOR UPDATE
SELECT "customers"."id", "customers"."name", "customers"."email", "customers"."phone", "customers"."born", "customers"."seen", "customers"."balance", "customers"."doc", "customers"."uid" FROM "customers" WHERE "customers"."id" > 1 FOR SHARE SKIP LOCKED
SELECT "customers"."id", "customers"."name", "customers"."email", "customers"."phone", "customers"."born", "customers"."seen", "customers"."balance", "customers"."doc", "customers"."uid" FROM "customers" INNER JOIN "orders" ON ("customers"."id" = "orders"."customer_id") WHERE "orders"."status" = 'open'
SELECT "customers"."id", "customers"."name", "customers"."email", "customers"."phone", "customers"."born", "customers"."seen", "customers"."balance", "customers"."doc", "customers"."uid", "orders"."id", "orders"."total" FROM "customers" LEFT OUTER JOIN "orders" ON ("customers"."id" = "orders"."customer_id")
SELECT "customers"."id", "customers"."name", "customers"."email", "customers"."phone", "customers"."born", "customers"."seen", "customers"."balance", "customers"."doc", "customers"."uid" FROM "customers" WHERE EXISTS(SELECT 1 AS "a" FROM "orders" U0 WHERE U0."customer_id" = ("customers"."id") LIMIT 1)
SELECT "customers"."id", "customers"."name", "customers"."email", "customers"."phone", "customers"."born", "customers"."seen", "customers"."balance", "customers"."doc", "customers"."uid" FROM "customers" WHERE "customers"."id" IN (SELECT "orders"."customer_id" FROM "orders" WHERE "orders"."total" > 10)
SELECT "customers"."id", "customers"."name", "customers"."email", "customers"."phone", "customers"."born", "customers"."seen", "customers"."balance", "customers"."doc", "customers"."uid" FROM "customers" WHERE "customers"."id" = ANY(ARRAY[1,2])
SELECT COUNT(*) AS "__count" FROM "customers"
SELECT COUNT("customers"."email") AS "n" FROM "customers"
SELECT (1) AS "a" FROM "customers" WHERE "customers"."name" = 'x' LIMIT 1
SELECT MAX("customers"."id") AS "id__max" FROM "customers"
SELECT AVG("customers"."balance") FROM "customers"
SELECT "customers"."name", COUNT("orders"."id") AS "n" FROM "customers" LEFT OUTER JOIN "orders" ON ("customers"."id" = "orders"."customer_id") GROUP BY "customers"."name" HAVING COUNT("orders"."id") > 0 ORDER BY "n" DESC
SELECT "orders"."status", SUM("orders"."total") FROM "orders" GROUP BY "orders"."status"
SELECT 1 AS one FROM customers WHERE customers.id = 1 LIMIT 1
SELECT customers.* FROM customers WHERE customers.id = 1 LIMIT 1
SELECT c1_0.id, c1_0.name, c1_0.email FROM customers c1_0 WHERE c1_0.id = 1
SELECT c1_0.id, c1_0.email, o1_0.id, o1_0.total FROM customers c1_0 LEFT JOIN orders o1_0 ON c1_0.id = o1_0.customer_id WHERE c1_0.id = 1
SELECT t0."id", t0."email" FROM "public"."customers" AS t0 WHERE (1=1) ORDER BY t0."id" ASC LIMIT 100 OFFSET 0
SELECT customers_1.id AS customers_1_id, customers_1.email AS customers_1_email FROM customers AS customers_1
SELECT anon_1.id, anon_1.mail FROM (SELECT customers.id AS id, customers.email AS mail FROM customers LIMIT 5) AS anon_1
SELECT nextval('counter')
SELECT currval('counter')
SELECT lastval()
INSERT INTO "orders" ("id", "customer_id", "total", "status", "placed") VALUES (1000, 1, 0.50, 'open', now()) RETURNING "orders"."id"
UPDATE "orders" SET "status" = 'paid', "total" = 0 WHERE "orders"."id" = 1000
DELETE FROM "orders" WHERE "orders"."id" IN (1000)
INSERT INTO "orders" ("id", "customer_id", "total", "status", "placed") VALUES (1001, 2, 1.50, 'open', now()) RETURNING "orders"."id"
UPDATE "orders" SET "status" = 'paid', "total" = 1 WHERE "orders"."id" = 1001
DELETE FROM "orders" WHERE "orders"."id" IN (1001)
INSERT INTO "orders" ("id", "customer_id", "total", "status", "placed") VALUES (1002, 3, 2.50, 'open', now()) RETURNING "orders"."id"
UPDATE "orders" SET "status" = 'paid', "total" = 2 WHERE "orders"."id" = 1002
DELETE FROM "orders" WHERE "orders"."id" IN (1002)
INSERT INTO "orders" ("id", "customer_id", "total", "status", "placed") VALUES (1003, 4, 3.50, 'open', now()) RETURNING "orders"."id"
UPDATE "orders" SET "status" = 'paid', "total" = 3 WHERE "orders"."id" = 1003
DELETE FROM "orders" WHERE "orders"."id" IN (1003)
INSERT INTO "orders" ("id", "customer_id", "total", "status", "placed") VALUES (1004, 5, 4.50, 'open', now()) RETURNING "orders"."id"
UPDATE "orders" SET "status" = 'paid', "total" = 4 WHERE "orders"."id" = 1004
DELETE FROM "orders" WHERE "orders"."id" IN (1004)
INSERT INTO "orders" ("id", "customer_id", "total", "status", "placed") VALUES (1005, 1, 5.50, 'open', now()) RETURNING "orders"."id"
UPDATE "orders" SET "status" = 'paid', "total" = 5 WHERE "orders"."id" = 1005
DELETE FROM "orders" WHERE "orders"."id" IN (1005)
INSERT INTO "orders" ("id", "customer_id", "total", "status", "placed") VALUES (1006, 2, 6.50, 'open', now()) RETURNING "orders"."id"
UPDATE "orders" SET "status" = 'paid', "total" = 6 WHERE "orders"."id" = 1006
DELETE FROM "orders" WHERE "orders"."id" IN (1006)
INSERT INTO "orders" ("id", "customer_id", "total", "status", "placed") VALUES (1007, 3, 7.50, 'open', now()) RETURNING "orders"."id"
UPDATE "orders" SET "status" = 'paid', "total" = 7 WHERE "orders"."id" = 1007
DELETE FROM "orders" WHERE "orders"."id" IN (1007)
INSERT INTO "orders" ("id", "customer_id", "total", "status", "placed") VALUES (1008, 4, 8.50, 'open', now()) RETURNING "orders"."id"
UPDATE "orders" SET "status" = 'paid', "total" = 8 WHERE "orders"."id" = 1008
DELETE FROM "orders" WHERE "orders"."id" IN (1008)
INSERT INTO "orders" ("id", "customer_id", "total", "status", "placed") VALUES (1009, 5, 9.50, 'open', now()) RETURNING "orders"."id"
UPDATE "orders" SET "status" = 'paid', "total" = 9 WHERE "orders"."id" = 1009
DELETE FROM "orders" WHERE "orders"."id" IN (1009)
INSERT INTO "orders" ("id", "customer_id", "total", "status", "placed") VALUES (1010, 1, 10.50, 'open', now()) RETURNING "orders"."id"
UPDATE "orders" SET "status" = 'paid', "total" = 10 WHERE "orders"."id" = 1010
DELETE FROM "orders" WHERE "orders"."id" IN (1010)
INSERT INTO "orders" ("id", "customer_id", "total", "status", "placed") VALUES (1011, 2, 11.50, 'open', now()) RETURNING "orders"."id"
UPDATE "orders" SET "status" = 'paid', "total" = 11 WHERE "orders"."id" = 1011
DELETE FROM "orders" WHERE "orders"."id" IN (1011)
INSERT INTO "orders" ("id", "customer_id", "total", "status", "placed") VALUES (1012, 3, 12.50, 'open', now()) RETURNING "orders"."id"
UPDATE "orders" SET "status" = 'paid', "total" = 12 WHERE "orders"."id" = 1012
DELETE FROM "orders" WHERE "orders"."id" IN (1012)
INSERT INTO "orders" ("id", "customer_id", "total", "status", "placed") VALUES (1013, 4, 13.50, 'open', now()) RETURNING "orders"."id"
UPDATE "orders" SET "status" = 'paid', "total" = 13 WHERE "orders"."id" = 1013
DELETE FROM "orders" WHERE "orders"."id" IN (1013)
INSERT INTO "orders" ("id", "customer_id", "total", "status", "placed") VALUES (1014, 5, 14.50, 'open', now()) RETURNING "orders"."id"
UPDATE "orders" SET "status" = 'paid', "total" = 14 WHERE "orders"."id" = 1014
DELETE FROM "orders" WHERE "orders"."id" IN (1014)
INSERT INTO "orders" ("id", "customer_id", "total", "status", "placed") VALUES (1015, 1, 15.50, 'open', now()) RETURNING "orders"."id"
UPDATE "orders" SET "status" = 'paid', "total" = 15 WHERE "orders"."id" = 1015
DELETE FROM "orders" WHERE "orders"."id" IN (1015)
INSERT INTO "orders" ("id", "customer_id", "total", "status", "placed") VALUES (1016, 2, 16.50, 'open', now()) RETURNING "orders"."id"
UPDATE "orders" SET "status" = 'paid', "total" = 16 WHERE "orders"."id" = 1016
DELETE FROM "orders" WHERE "orders"."id" IN (1016)
INSERT INTO "orders" ("id", "customer_id", "total", "status", "placed") VALUES (1017, 3, 17.50, 'open', now()) RETURNING "orders"."id"
UPDATE "orders" SET "status" = 'paid', "total" = 17 WHERE "orders"."id" = 1017
DELETE FROM "orders" WHERE "orders"."id" IN (1017)
INSERT INTO "orders" ("id", "customer_id", "total", "status", "placed") VALUES (1018, 4, 18.50, 'open', now()) RETURNING "orders"."id"
UPDATE "orders" SET "status" = 'paid', "total" = 18 WHERE "orders"."id" = 1018
DELETE FROM "orders" WHERE "orders"."id" IN (1018)
INSERT INTO "orders" ("id", "customer_id", "total", "status", "placed") VALUES (1019, 5, 19.50, 'open', now()) RETURNING "orders"."id"
UPDATE "orders" SET "status" = 'paid', "total" = 19 WHERE "orders"."id" = 1019
DELETE FROM "orders" WHERE "orders"."id" IN (1019)
INSERT INTO customers (id, name, email) VALUES (901, 'new', 'new@shop.test') RETURNING id
INSERT INTO customers (id, name) VALUES (902, 'new') RETURNING *
INSERT INTO customers (id, name, phone) VALUES (903, 'n', 'p') ON CONFLICT (id) DO UPDATE SET name = excluded.name RETURNING id
UPDATE customers SET name = 'newer' WHERE id = 901
UPDATE customers SET email = 'newer@shop.test' WHERE id = 901
UPDATE customers SET email = NULL WHERE id = 902
UPDATE customers SET balance = balance + 1 WHERE id = 1 RETURNING balance
UPDATE customers SET seen = now() WHERE id = 2
DELETE FROM customers WHERE id IN (901, 902, 903)
INSERT INTO notes VALUES (90, 'a'), (91, 'b')
DELETE FROM notes WHERE id >= 90
MERGE INTO notes n USING (VALUES (92, 'c')) v(id, note) ON n.id = v.id WHEN NOT MATCHED THEN INSERT VALUES (v.id, v.note) WHEN MATCHED THEN UPDATE SET note = v.note
BEGIN
SAVEPOINT a
INSERT INTO notes VALUES (93, 'x')
ROLLBACK TO SAVEPOINT a
RELEASE SAVEPOINT a
COMMIT
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY
SELECT id FROM customers
ROLLBACK
SELECT date_trunc('day', placed) AS d, count(*) FROM orders GROUP BY 1 ORDER BY 1
SELECT date_trunc('day', o.placed)::date AS d, o.status, sum(o.total) FROM orders o JOIN customers c ON c.id = o.customer_id GROUP BY 1, 2 ORDER BY 1, 2
SELECT extract(day FROM placed) AS d, avg(total) FROM orders GROUP BY 1
SELECT count(*) FROM orders WHERE placed >= date_trunc('day', now())
WITH p AS (SELECT date_trunc('day', placed) d, total FROM orders) SELECT d, sum(total) OVER (ORDER BY d) FROM p
SELECT d, lag(n) OVER (ORDER BY d) FROM (SELECT date_trunc('day', placed) d, count(*) n FROM orders GROUP BY 1) x
SELECT date_trunc('week', placed) AS d, count(*) FROM orders GROUP BY 1 ORDER BY 1
SELECT date_trunc('week', o.placed)::date AS d, o.status, sum(o.total) FROM orders o JOIN customers c ON c.id = o.customer_id GROUP BY 1, 2 ORDER BY 1, 2
SELECT extract(week FROM placed) AS d, avg(total) FROM orders GROUP BY 1
SELECT count(*) FROM orders WHERE placed >= date_trunc('week', now())
WITH p AS (SELECT date_trunc('week', placed) d, total FROM orders) SELECT d, sum(total) OVER (ORDER BY d) FROM p
SELECT d, lag(n) OVER (ORDER BY d) FROM (SELECT date_trunc('week', placed) d, count(*) n FROM orders GROUP BY 1) x
SELECT date_trunc('month', placed) AS d, count(*) FROM orders GROUP BY 1 ORDER BY 1
SELECT date_trunc('month', o.placed)::date AS d, o.status, sum(o.total) FROM orders o JOIN customers c ON c.id = o.customer_id GROUP BY 1, 2 ORDER BY 1, 2
SELECT extract(month FROM placed) AS d, avg(total) FROM orders GROUP BY 1
SELECT count(*) FROM orders WHERE placed >= date_trunc('month', now())
WITH p AS (SELECT date_trunc('month', placed) d, total FROM orders) SELECT d, sum(total) OVER (ORDER BY d) FROM p
SELECT d, lag(n) OVER (ORDER BY d) FROM (SELECT date_trunc('month', placed) d, count(*) n FROM orders GROUP BY 1) x
SELECT date_trunc('quarter', placed) AS d, count(*) FROM orders GROUP BY 1 ORDER BY 1
SELECT date_trunc('quarter', o.placed)::date AS d, o.status, sum(o.total) FROM orders o JOIN customers c ON c.id = o.customer_id GROUP BY 1, 2 ORDER BY 1, 2
SELECT extract(quarter FROM placed) AS d, avg(total) FROM orders GROUP BY 1
SELECT count(*) FROM orders WHERE placed >= date_trunc('quarter', now())
WITH p AS (SELECT date_trunc('quarter', placed) d, total FROM orders) SELECT d, sum(total) OVER (ORDER BY d) FROM p
SELECT d, lag(n) OVER (ORDER BY d) FROM (SELECT date_trunc('quarter', placed) d, count(*) n FROM orders GROUP BY 1) x
SELECT date_trunc('year', placed) AS d, count(*) FROM orders GROUP BY 1 ORDER BY 1
SELECT date_trunc('year', o.placed)::date AS d, o.status, sum(o.total) FROM orders o JOIN customers c ON c.id = o.customer_id GROUP BY 1, 2 ORDER BY 1, 2
SELECT extract(year FROM placed) AS d, avg(total) FROM orders GROUP BY 1
SELECT count(*) FROM orders WHERE placed >= date_trunc('year', now())
WITH p AS (SELECT date_trunc('year', placed) d, total FROM orders) SELECT d, sum(total) OVER (ORDER BY d) FROM p
SELECT d, lag(n) OVER (ORDER BY d) FROM (SELECT date_trunc('year', placed) d, count(*) n FROM orders GROUP BY 1) x
SELECT sum(total) FROM orders
SELECT status, sum(total) FROM orders GROUP BY status
SELECT c.name, sum(o.total) FROM orders o JOIN customers c ON o.customer_id = c.id GROUP BY c.name ORDER BY 2 DESC NULLS LAST LIMIT 10
SELECT sum(balance) FILTER (WHERE born < '2001-01-01') FROM customers
SELECT avg(total) FROM orders
SELECT status, avg(total) FROM orders GROUP BY status
SELECT c.name, avg(o.total) FROM orders o JOIN customers c ON o.customer_id = c.id GROUP BY c.name ORDER BY 2 DESC NULLS LAST LIMIT 10
SELECT avg(balance) FILTER (WHERE born < '2001-01-01') FROM customers
SELECT min(total) FROM orders
SELECT status, min(total) FROM orders GROUP BY status
SELECT c.name, min(o.total) FROM orders o JOIN customers c ON o.customer_id = c.id GROUP BY c.name ORDER BY 2 DESC NULLS LAST LIMIT 10
SELECT min(balance) FILTER (WHERE born < '2001-01-01') FROM customers
SELECT max(total) FROM orders
SELECT status, max(total) FROM orders GROUP BY status
SELECT c.name, max(o.total) FROM orders o JOIN customers c ON o.customer_id = c.id GROUP BY c.name ORDER BY 2 DESC NULLS LAST LIMIT 10
SELECT max(balance) FILTER (WHERE born < '2001-01-01') FROM customers
SELECT count(total) FROM orders
SELECT status, count(total) FROM orders GROUP BY status
SELECT c.name, count(o.total) FROM orders o JOIN customers c ON o.customer_id = c.id GROUP BY c.name ORDER BY 2 DESC NULLS LAST LIMIT 10
SELECT count(balance) FILTER (WHERE born < '2001-01-01') FROM customers
SELECT stddev(total) FROM orders
SELECT status, stddev(total) FROM orders GROUP BY status
SELECT c.name, stddev(o.total) FROM orders o JOIN customers c ON o.customer_id = c.id GROUP BY c.name ORDER BY 2 DESC NULLS LAST LIMIT 10
SELECT stddev(balance) FILTER (WHERE born < '2001-01-01') FROM customers
SELECT variance(total) FROM orders
SELECT status, variance(total) FROM orders GROUP BY status
SELECT c.name, variance(o.total) FROM orders o JOIN customers c ON o.customer_id = c.id GROUP BY c.name ORDER BY 2 DESC NULLS LAST LIMIT 10
SELECT variance(balance) FILTER (WHERE born < '2001-01-01') FROM customers
SELECT width_bucket(total, 0, 100, 10) b, count(*) FROM orders GROUP BY 1 ORDER BY 1
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY total) FROM orders
SELECT status, count(*) FROM orders GROUP BY ROLLUP (status)
SELECT CASE WHEN total > 10 THEN 'big' ELSE 'small' END s, count(*) FROM orders GROUP BY 1
SELECT coalesce(status, 'none'), count(*) FROM orders GROUP BY 1
SELECT name, rank() OVER (ORDER BY balance DESC) FROM customers
SELECT id, email FROM customers WHERE id IN (SELECT customer_id FROM orders WHERE total > 1)
SELECT c.email, count(o.id) FROM customers c LEFT JOIN orders o ON o.customer_id = c.id GROUP BY c.id
SELECT mail FROM people
SELECT p.mail, c.name FROM people p JOIN customers c ON c.id = p.id
SELECT count(*) FROM (SELECT * FROM customers) x
SELECT * FROM customers LIMIT 0
SELECT * FROM customers WHERE 1 = 0
SELECT id, left(name, 3), length(name) FROM customers
SELECT lower(name), upper(email) FROM customers
SELECT name || ' <' || email || '>' FROM customers
SELECT to_char(born, 'YYYY-MM'), count(*) FROM customers GROUP BY 1
SELECT age(now(), seen) FROM customers
SELECT json_agg(o) FROM (SELECT id, total FROM orders) o
SELECT array_agg(name ORDER BY id) FROM customers
SELECT string_agg(name, ', ' ORDER BY name) FROM customers
SELECT generate_series(1, 3)
SELECT * FROM generate_series(now() - interval '3 days', now(), interval '1 day')
SELECT unnest(ARRAY[1,2,3])
SELECT md5(name) FROM customers
SELECT random() < 2
SELECT id, row_number() OVER (PARTITION BY status ORDER BY placed) FROM orders
EXPLAIN SELECT * FROM customers
EXPLAIN (FORMAT json) SELECT name FROM customers WHERE id = 1
COPY (SELECT id, name FROM customers) TO STDOUT
COPY customers TO STDOUT (FORMAT csv, HEADER)
COPY orders TO STDOUT
SELECT 1
SELECT version()
SHOW server_version
SHOW transaction isolation level
SHOW standard_conforming_strings
SELECT current_database()
SELECT current_schema()
SELECT current_user, session_user
SELECT pg_backend_pid()
SELECT now()
SET statement_timeout = '30s'
RESET statement_timeout
SET search_path TO public
SET TIME ZONE 'UTC'
SET application_name = 'bi'
SELECT set_config('search_path', 'public', false)
SELECT current_setting('server_version_num')
DISCARD PLANS
SELECT pg_is_in_recovery()
SELECT has_table_privilege('customers', 'SELECT')
SELECT to_regclass('customers')
SELECT pg_table_size('orders')
SELECT txid_current()
SELECT table_schema, table_name, table_type FROM information_schema.tables WHERE table_schema NOT IN ('pg_catalog', 'information_schema')
SELECT column_name, data_type, is_nullable, column_default FROM information_schema.columns WHERE table_name = 'customers' ORDER BY ordinal_position
SELECT constraint_name, constraint_type FROM information_schema.table_constraints WHERE table_name = 'customers'
SELECT kcu.column_name FROM information_schema.table_constraints tc JOIN information_schema.key_column_usage kcu USING (constraint_name) WHERE tc.table_name = 'customers' AND tc.constraint_type = 'PRIMARY KEY'
SELECT schema_name FROM information_schema.schemata
SELECT table_name, view_definition FROM information_schema.views WHERE table_schema = 'public'
SELECT routine_name FROM information_schema.routines WHERE routine_schema = 'public'
SELECT sequence_name FROM information_schema.sequences
SELECT c.relname, c.relkind FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'public'
SELECT a.attname, format_type(a.atttypid, a.atttypmod), pg_get_expr(d.adbin, d.adrelid), a.attnotnull FROM pg_attribute a LEFT JOIN pg_attrdef d ON a.attrelid = d.adrelid AND a.attnum = d.adnum WHERE a.attrelid = 'customers'::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
SELECT i.relname, ix.indisunique, ix.indisprimary FROM pg_index ix JOIN pg_class i ON i.oid = ix.indexrelid WHERE ix.indrelid = 'customers'::regclass
SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'customers'::regclass
SELECT t.oid, typname, typtype, typarray FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE typtype IN ('b', 'e')
SELECT extname, extversion FROM pg_extension
SELECT nspname FROM pg_namespace
SELECT rolname FROM pg_roles
SELECT datname FROM pg_database
SELECT relname, n_live_tup FROM pg_stat_user_tables
SELECT indexrelname, idx_scan FROM pg_stat_user_indexes
SELECT name, setting FROM pg_settings WHERE name LIKE 'max%'
SELECT pid, state, wait_event FROM pg_stat_activity
SELECT obj_description('customers'::regclass)
SELECT pg_get_viewdef('people'::regclass)
SELECT reltuples::bigint FROM pg_class WHERE relname = 'customers'
SELECT enumlabel FROM pg_enum
SELECT attname, n_distinct FROM pg_stats WHERE tablename = 'orders'
CREATE TEMP TABLE scratch (a int, b text)
INSERT INTO scratch SELECT id, name FROM customers
SELECT * FROM scratch
CREATE INDEX ON scratch (a)
ANALYZE scratch
DROP TABLE scratch
CREATE TEMP TABLE totals AS SELECT customer_id, sum(total) AS s FROM orders GROUP BY 1
SELECT * FROM totals
DROP TABLE totals
LISTEN news
UNLISTEN news
SELECT pg_advisory_lock(1)
SELECT pg_advisory_unlock(1)
VACUUM notes
DECLARE x CURSOR WITH HOLD FOR SELECT id, name FROM customers
FETCH 2 FROM x
CLOSE x
PREPARE q AS SELECT name FROM customers WHERE id = $1
EXECUTE q (1)
DEALLOCATE q
SELECT id, email FROM customers ORDER BY id
SELECT id, email FROM customers ORDER BY email
SELECT id FROM customers WHERE email = 'a@shop.test'
SELECT email, count(*) FROM customers GROUP BY email
SELECT DISTINCT email FROM customers
