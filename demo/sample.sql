-- The sample database: customers and their payments. All people are invented.
CREATE TABLE customers (
  id      bigint PRIMARY KEY,
  name    text NOT NULL,
  email   text NOT NULL,
  country char(2) NOT NULL,
  since   date NOT NULL
);
CREATE TABLE payments (
  id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  customer_id bigint NOT NULL REFERENCES customers,
  amount      numeric(10, 2) NOT NULL CHECK (amount > 0),
  card_last4  char(4) NOT NULL,
  state       text NOT NULL DEFAULT 'pending',
  made        timestamptz NOT NULL DEFAULT now()
);
INSERT INTO customers
SELECT n, 'Customer ' || n, 'customer' || n || '@example.com', (ARRAY['AT','BR','DE','JP','US'])[1 + n % 5], date '2024-01-01' + n
FROM generate_series(1, 500) AS n;
INSERT INTO payments (customer_id, amount, card_last4, state, made)
SELECT 1 + n % 500, 5 + (n * 7919 % 20000) / 100.0, lpad((n * 31 % 10000)::text, 4, '0'),
       CASE WHEN n % 9 = 0 THEN 'failed' WHEN n % 4 = 0 THEN 'pending' ELSE 'settled' END,
       timestamptz '2026-01-01 00:00+00' + n * interval '1 hour'
FROM generate_series(1, 5000) AS n;
CREATE ROLE app_rw LOGIN;
CREATE TABLE notes (id int PRIMARY KEY, body text NOT NULL);
INSERT INTO notes VALUES (1, 'asked to be called back'), (2, 'wants the invoice sent to mia.wong@example.net or a call at +44 20 7946 0018'), (3, 'shipped');
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO app_rw;
