/**
 * Hold recognises an outage by two rows. The pulse says until when a hold lasts that is set
 * already. The outage marker says whether any session has noticed the outage yet.
 *
 * The obvious version reads one after the other. Between the two reads another session may notice,
 * set the hold and write the marker. The pulse that was read is from before, the marker from after,
 * and together they deny the outage. Such a reader reaps every host that could not beat through it.
 */
import t from 'tap'
import type { Test } from 'tap'
import { deployments, node } from '../helpers/factories.js'
import { stage } from './stage.js'

const ROUNDS = 150

/**
 * All sessions ask at once after each outage. Returns how many were answered that there is none.
 */
async function toldNothingHappened(t: Test, ask: (nr: number) => string): Promise<number> {
  const { sql, session } = await stage(t)
  await sql`update mooring.setting set beat_interval = '1 min', lease_ttl = '10 min'`
  await node(sql, { name: 'host-a' })
  await deployments(sql, 1)
  await sql.unsafe(OBVIOUS)
  const askers = await Promise.all(['first', 'second', 'third', 'fourth'].map(session))
  let wrong = 0
  for (let round = 0; round < ROUNDS; round++) {
    await sql.begin(async (sql) => {
      await sql`delete from mooring_internal.outage_marker`
      await sql`
        update mooring_internal.pulse
           set pulse_at = clock_timestamp(), hold_until = null, hold_reason = null`
    })
    const answers = await Promise.all(
      askers.map(({ sql }, nr) => sql.unsafe<{ hold: boolean }[]>(`select ${ask(nr)} as hold`)),
    )
    wrong += answers.filter(([answer]) => !answer!.hold).length
  }
  return wrong
}

/**
 * A notice_outage() that reads one and then the other. The pause makes the gap wide enough to be
 * met each time.
 */
const OBVIOUS = `
create function public.obvious_hold() returns boolean language plpgsql as $$
declare
  until timestamptz;
begin
  select p.hold_until into until from mooring_internal.pulse p;
  perform pg_sleep(0.002);
  return until > clock_timestamp()
    or not mooring_internal.outage_marker_is_present() and mooring_internal.notice_outage();
end;
$$`

t.test('any number may ask at once after an outage: each is answered to hold', async (t) => {
  t.equal(await toldNothingHappened(t, () => 'mooring_internal.notice_outage()'), 0)
})

t.test(
  'unless both are read at one instant, some session is answered that nothing happened',
  async (t) => {
    t.ok(
      (await toldNothingHappened(t, (nr) =>
        nr === 0 ? 'mooring_internal.notice_outage()' : 'public.obvious_hold()',
      )) > 0,
    )
  },
)
