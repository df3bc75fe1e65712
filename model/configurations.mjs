// What `npm run model` checks: settings of model/lease.pml, and whether two hosts may run the same
// work. A `double run` has a rule of the product removed: it shows that the model finds what the
// rule prevents.
// quick: the test suite runs it too. slow: minutes, only when named or with --full.
const SAFE = 'safe'
const DOUBLE = 'double run'

export const CONFIGURATIONS = [
  { name: 'base', expected: SAFE, quick: true, set: {} },

  // lease_ttl + reap_margin >= lease + time to kill + what clocks may do, and not a tick less
  { name: 'kill-0-stale-2', expected: SAFE, quick: true, set: { KILL: 0, STALE: 2 } },
  { name: 'kill-0-stale-1', expected: DOUBLE, set: { KILL: 0, STALE: 1 } },
  { name: 'kill-1-stale-2', expected: DOUBLE, quick: true, set: { STALE: 2 } },
  { name: 'lease-3-stale-4', expected: SAFE, set: { TTL: 3, STALE: 4 } },
  { name: 'lease-3-stale-3', expected: DOUBLE, set: { TTL: 3, STALE: 3 } },
  { name: 'drift-1-stale-3', expected: DOUBLE, set: { DRIFT: 1 } },
  { name: 'drift-1-stale-4', expected: SAFE, set: { DRIFT: 1, STALE: 4 } },
  { name: 'clock-step-1-stale-3', expected: DOUBLE, set: { STEP: 1 } },
  { name: 'clock-step-1-stale-4', expected: SAFE, set: { STEP: 1, STALE: 4 } },
  { name: 'drift-and-step-stale-4', expected: DOUBLE, set: { DRIFT: 1, STEP: 1, STALE: 4 } },
  { name: 'drift-and-step-stale-5', expected: SAFE, set: { DRIFT: 1, STEP: 1, STALE: 5 } },
  // a step beyond the margin, which a tick notices
  { name: 'clock-step-noticed', expected: SAFE, set: { STEP: 2, NOTICE: 1 } },
  { name: 'clock-step-second-opinion', expected: DOUBLE, set: { STEP: 2, NOTICE: 2 } },
  { name: 'lease-from-answer', expected: DOUBLE, quick: true, set: { FROM_ANSWER: 1 } },

  // which program kills
  { name: 'no-fence', expected: DOUBLE, quick: true, set: { FENCE: 0 } },
  { name: 'fence-inside-agent', expected: DOUBLE, quick: true, set: { FENCE: 1 } },
  { name: 'agent-dies', expected: SAFE, set: { AGENT_DIES: 1 } },
  { name: 'warden-dies-dead-man', expected: SAFE, set: { WARDEN_DIES: 1 } },
  { name: 'warden-dies-no-dead-man', expected: DOUBLE, set: { WARDEN_DIES: 1, DEADMAN: 0 } },

  // what a beat confirms, and what a reap locks
  { name: 'reads', expected: SAFE, set: { READ: 1 } },
  { name: 'reads-confirmed-by-later-beat', expected: DOUBLE, set: { READ: 1, READ_ANY_BEAT: 1 } },
  { name: 'heartbeat-one-statement', expected: DOUBLE, quick: true, set: { ONE_STATEMENT: 1 } },
  { name: 'reap-without-lock', expected: DOUBLE, quick: true, set: { REAP_LOCKED: 0 } },

  // one session per name
  { name: 'twin-names', expected: SAFE, quick: true, set: { TWIN: 1 } },
  { name: 'twin-names-no-session', expected: DOUBLE, quick: true, set: { TWIN: 1, SESSION: 0 } },
  { name: 'twin-names-clock-step', expected: SAFE, set: { TWIN: 1, STEP: 1, STALE: 4 } },
  {
    name: 'twin-names-clock-step-free-at-lease-end',
    expected: DOUBLE,
    set: { TWIN: 1, STEP: 1, STALE: 4, FREE: 3 },
  },

  // moves of live work: stop, report, release, then place
  { name: 'move', expected: SAFE, set: { MOVE: 1 } },
  { name: 'move-reads', expected: SAFE, slow: true, set: { MOVE: 1, READ: 1 } },
  { name: 'move-agent-dies', expected: SAFE, set: { MOVE: 1, AGENT_DIES: 1 } },
  { name: 'move-crash', expected: SAFE, set: { MOVE: 1, OUTAGE: 1 } },
  { name: 'move-report-any-epoch', expected: DOUBLE, set: { MOVE: 1, REPORT_EPOCH: 0 } },
  { name: 'move-at-once', expected: DOUBLE, quick: true, set: { MOVE: 2 } },

  // the database comes back with less than it had
  { name: 'crash', expected: SAFE, set: { OUTAGE: 1 } },
  { name: 'crash-agent-dies', expected: SAFE, set: { OUTAGE: 1, AGENT_DIES: 1 } },
  { name: 'crash-no-hold', expected: DOUBLE, quick: true, set: { OUTAGE: 1, HOLD: 0 } },
  { name: 'promotion', expected: SAFE, set: { OUTAGE: 2 } },
  { name: 'promotion-no-hold', expected: DOUBLE, set: { OUTAGE: 2, HOLD: 0 } },
  { name: 'promotion-hold-of-reap-only', expected: DOUBLE, set: { OUTAGE: 2, HOLD: 1 } },
  { name: 'promotion-lease-of-node', expected: DOUBLE, set: { OUTAGE: 2, NODE_LEASE: 1 } },
  { name: 'promotion-restart-after-lease', expected: DOUBLE, set: { OUTAGE: 2, RAN: 3 } },

  // the server of before the promotion goes on answering, and each request reaches either one
  { name: 'deposed-synchronous', expected: SAFE, set: { OUTAGE: 1, DEPOSED: 1 } },
  { name: 'deposed-confirms', expected: DOUBLE, set: { OUTAGE: 1, DEPOSED: 1, SYNC: 0 } },
  {
    name: 'deposed-confirms-heard',
    expected: SAFE,
    set: { OUTAGE: 1, DEPOSED: 1, SYNC: 0, HEARD: 1 },
  },
  {
    name: 'deposed-confirms-heard-any-timeline',
    expected: DOUBLE,
    set: { OUTAGE: 1, DEPOSED: 1, SYNC: 0, HEARD: 1, NEWEST: 0 },
  },
]
