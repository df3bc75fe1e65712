/**
 * Hold tells an outage by two rows: the pulse, which says until when a hold lasts that somebody has set already, and the outage marker, which says
 * whether anybody has noticed yet. The obvious version reads one after the other. Between the two reads somebody else may notice, set the hold
 * and write the marker: the pulse that was read is of before, the marker of after, and together they say that nothing ever happened. Whoever reads so
 * reaps every host that could not beat through the outage.
 */
import t from 'tap'
import type { Test } from 'tap'
import { deployments, node } from '../helpers/factories.js'
import { stage } from './stage.js'

const ROUNDS = 150

/** Everybody asks at once after each outage; how many were told that there is none. */
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

/** What notice_outage() would be if it read the one and then the other; the pause only makes the gap wide enough to be met each time. */
const OBVIOUS = `
create function public.obvious_hold() returns boolean language plpgsql as $$
declare
  until timestamptz;
begin
  select p.hold_until into until from mooring_internal.pulse p;
  perform pg_sleep(0.002);
  return until > clock_timestamp() or not mooring_internal.outage_marker_is_present() and mooring_internal.notice_outage();
end;
$$`

t.test('however many ask at once after an outage, each is told to hold', async (t) => {
  t.equal(await toldNothingHappened(t, () => 'mooring_internal.notice_outage()'), 0)
})

t.test('without reading both at one instant somebody is told that nothing happened', async (t) => {
  t.ok(
    (await toldNothingHappened(t, (nr) =>
      nr === 0 ? 'mooring_internal.notice_outage()' : 'public.obvious_hold()',
    )) > 0,
  )
})
