// Connects with the URL in its argument, and prints whether the session is encrypted.
const { Client } = require('pg');

(async () => {
  const client = new Client({ connectionString: process.argv[2] });
  await client.connect();
  const { rows } = await client.query('select ssl from pg_stat_ssl where pid = pg_backend_pid()');
  console.log(rows[0].ssl ? 't' : 'f');
  await client.end();
})().catch((e) => { console.error(e.message); process.exit(1); });
