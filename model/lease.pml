/*
 * One assignment, two hosts, one database, and the question: can both hosts run it at one instant?
 *
 * Every host has an agent and, beside it, a warden that kills by the deadline. Time is in ticks.
 * An agent counts what is *left* of its lease. The database counts the *age* of a node's last beat.
 * The two are never compared, as in the product.
 *
 * An actor may do anything it can do at any moment or never. Beats, answers, reads and reports are
 * delayed for ever or lost, agents are paused, workloads end by themselves. Only a deadline is
 * prompt: no time passes while an actor that is able to kill has to kill.
 *
 * Only equality of epochs is ever checked. So an epoch that no actor remembers may be given again,
 * and the state stays finite without a bound on how often the work changes hands.
 *
 * Each switch below is a rule of the product or its absence. model/configurations.mjs says with
 * which settings the model must be safe and with which not.
 */

/* ticks */
#ifndef TTL
#define TTL 2              /* the agent's own lease: lease_ttl less the reserve of lease.ts */
#endif
#ifndef KILL
/* from the deadline until the last process is gone, the warden's late wake-up included */
#define KILL 1
#endif
#ifndef STALE
#define STALE 3            /* reaped when a beat is older than this: lease_ttl + reap_margin */
#endif
#ifndef FREE
#define FREE STALE         /* a name is free for another session when the beat is older than this */
#endif
#ifndef DRIFT
#define DRIFT 0            /* so many ticks may host 0 miss in all */
#endif
#ifndef STEP
#define STEP 0             /* the database clock jumps forward by this, once */
#endif
#ifndef NOTICE
/* what a tick does that compares clocks. 0: nothing, as with a step within the margin. 1: one
   opinion starts a hold. 2: it waits for a second one, and its reap goes on */
#define NOTICE 0
#endif

/* which program kills at the deadline */
#ifndef FENCE
#define FENCE 2            /* 0 none, 1 the agent while it is awake, 2 a warden of its own */
#endif
#ifndef DEADMAN
#define DEADMAN 1          /* a timer that needs neither agent nor warden */
#endif
#ifndef WARDEN_DIES
#define WARDEN_DIES 0      /* 1: a warden may be killed or stopped for good */
#endif
#ifndef AGENT_DIES
/* 1: an agent may be killed, and a successor takes over its name and its warden */
#define AGENT_DIES 0
#endif

/* what a beat means */
#ifndef FROM_ANSWER
/* 1: the lease counts from the answer instead of the start of the request */
#define FROM_ANSWER 0
#endif
#ifndef NODE_LEASE
/* 1: any answer extends the lease of the whole node, 0: only of what it confirms */
#define NODE_LEASE 0
#endif
#ifndef ONE_STATEMENT
#define ONE_STATEMENT 0    /* 1: heartbeat() reads what is owned before it has the row it writes */
#endif
#ifndef READ
/* 0: the answer of a beat carries the owned set. 1: on host 0 it carries the digest only, and
   assignments_of() is a request of its own */
#define READ 0
#endif
#ifndef READ_ANY_BEAT
/* 1: what a read found is confirmed by a beat that was answered after the read began */
#define READ_ANY_BEAT 0
#endif
#ifndef REAP_LOCKED
#define REAP_LOCKED 1      /* 0: reap() judges the beat first and frees the work later */
#endif

/* sessions, stop orders, promotion */
#ifndef TWIN
#define TWIN 0             /* 1: both hosts go by one name */
#endif
#ifndef SESSION
#define SESSION 1          /* 0: any caller that gives the name is served */
#endif
#ifndef MOVE
/* 1: host 0 may be ordered to stop; it reports, then the row is free. 2: work is moved away from
   it at once */
#define MOVE 0
#endif
#ifndef REPORT_EPOCH
#define REPORT_EPOCH 1     /* 0: a report of an older epoch counts */
#endif
#ifndef OUTAGE
/* once: 1 a crash or a synchronous standby (beats are lost), 2 an asynchronous one (claims too) */
#define OUTAGE 0
#endif
#ifndef HOLD
#define HOLD 2             /* after it: 0 nothing, 1 no reap and no claim, 2 no new start either */
#endif
#ifndef RAN
/* what ran on a host starts there again in a hold. 0: never, 1: until its lease is over or the host
   has reported its stop, 2: also when the stop is reported, 3: also when the lease is over */
#define RAN 1
#endif
#ifndef DEPOSED
#define DEPOSED 0          /* 1: the server before the outage goes on answering, to either agent */
#endif
#ifndef SYNC
/* 1: with a synchronous standby a deposed server commits nothing, so it answers reads only */
#define SYNC 1
#endif
#ifndef NEWEST
#define NEWEST 1           /* 1: once it has heard the new server, an agent leaves the old one */
#endif
#ifndef HEARD
/* both agents hear the new server while more than this is left of its hold; 0: perhaps never */
#define HEARD 0
#endif

#define NONE 2
#define OLD (STALE > FREE -> STALE + 1 : FREE + 1)
#if TWIN
#define NAME(h) 0
#else
#define NAME(h) h
#endif

/* the database */
byte owner = NONE;         /* assignment.node_id */
byte epoch;                /* assignment.epoch, 0 while pending: no process's token */
bool stop;                 /* assignment.wanted = 'stop' */
byte age[2];               /* ticks since heartbeat.beat_at */
byte session[2];           /* heartbeat.session: the host whose agent has it */
byte hold;                 /* ticks left of pulse.hold_until */
byte condemned = NONE;     /* judged by a reap that holds no lock */
bool stepped, out;
byte opinions;             /* ticks that have seen the step */

/* what the standby received, once, at some moment before it is promoted */
bool copied, copy_stop;
byte copy_owner = NONE, copy_epoch;

/* the deposed server: what it has, when a standby was promoted beside it */
byte old_owner = NONE, old_epoch;
bool old_stop;
bool heard[2];             /* the agent has had an answer of the new server */
bool says_old[2], rd_old[2];  /* that answer is of the deposed one */

/* one beat in flight per agent */
#define IDLE 0
#define ASKED 1
#define ANSWERED 2
#define LANDED 3           /* ONE_STATEMENT only: read, not yet written */
byte beat[2], says[2];     /* says: the epoch owned, 0 for nothing */
bool says_stop[2], says_hold[2];
byte since[2];             /* ticks since that beat was started */

/* READ: one read in flight per agent */
byte rd[2], rd_says[2];
bool rd_stop[2];
byte rd_since[2];          /* ticks since the start of the beat that may confirm it */
byte last[2];              /* ticks since the start of the last beat that was answered */

byte report[2];            /* 'stopped' on its way: the epoch it is about */

/* the host */
#define DEAD 0
#define AWAKE 1
#define PAUSED 2
byte agent[2];
bool warden[2];
bool registered[2];
byte held[2];              /* the epoch of the set the agent has, 0 for nothing */
bool held_stop[2];
bool may_start[2];         /* the last answer said that there is no hold */
bool leased[2];            /* what is left counts for the epoch held */
byte ran[2];               /* the epoch that ran here and may start again in a hold */
byte left[2];              /* ticks left of the lease */
#define GONE 0
#define RUNS 1
#define DYING 2            /* and above: so many ticks more */
byte work[2];
byte missed;               /* ticks host 0 may still miss */

#define READS(h) (READ && h == 0)
#define UP(h) (agent[h] == AWAKE && registered[h])
#define CAN_KILL(h) (FENCE == 2 && (warden[h] || DEADMAN || agent[h] == AWAKE) || \
                     FENCE == 1 && agent[h] == AWAKE)
#define MUST_KILL(h) (work[h] == RUNS && left[h] == 0 && CAN_KILL(h))
#define OWNED(h) (owner == NAME(h))
#define SERVED(h) (!SESSION || session[NAME(h)] == h)

#define OLD_OWNED(h) (old_owner == NAME(h))
#define OLD_ANSWERS (DEPOSED && out)
/* an answer that is not believed is the same as none */
#define GIVES(h) (OLD_ANSWERS && (!heard[h] || !NEWEST))
#define BELIEVED(h, of_old) (!(of_old) || !heard[h] || !NEWEST)

#define USED(e) (epoch == e || copy_epoch == e || old_epoch == e || ran[0] == e || ran[1] == e || \
                 held[0] == e || held[1] == e || \
                 says[0] == e || says[1] == e || rd_says[0] == e || rd_says[1] == e || \
                 report[0] == e || report[1] == e)
#define UNUSED (!USED(1) -> 1 : (!USED(2) -> 2 : (!USED(3) -> 3 : (!USED(4) -> 4 : \
               (!USED(5) -> 5 : (!USED(6) -> 6 : (!USED(7) -> 7 : (!USED(8) -> 8 : \
               (!USED(9) -> 9 : (!USED(10) -> 10 : 11))))))))))

inline lose_beat(h) {
  beat[h] = IDLE; says[h] = 0; says_stop[h] = false; says_hold[h] = false; since[h] = 0;
  says_old[h] = false
}
inline lose_read(h) {
  rd[h] = IDLE; rd_says[h] = 0; rd_stop[h] = false; rd_since[h] = 0; rd_old[h] = false
}
/* A value that no rule reads again is forgotten, so that states that behave alike are one. Without
   a lease an epoch matters only where it is reported or compared with an answer. It can be compared
   with an answer only while the row or a message has it. */
#define NAMED(h, e) (e == epoch || e == copy_epoch || e == old_epoch || \
                     e == says[h] || e == rd_says[h])
/* leases.onOver(): the right under this epoch is over */
inline lease_over(h) { if :: RAN != 3 -> ran[h] = 0 :: else fi }
inline tidy(h) {
  if :: left[h] == 0 -> leased[h] = false; lease_over(h) :: else fi;
  if
  :: ran[h] != held[h] && !NAMED(h, ran[h]) || RAN && out && hold == 0 && may_start[h] &&
       !says_hold[h] ->
     ran[h] = 0
  :: else
  fi;
  if
  :: !leased[h] && !(MOVE && held_stop[h] && (!REPORT_EPOCH || NAMED(h, held[h]))) &&
       !(READS(h) && NAMED(h, held[h])) ->
     held[h] = 0; held_stop[h] = false
  :: else
  fi;
  if
  :: READS(h) && says[h] != epoch && says[h] != copy_epoch && says[h] != held[h] &&
       says[h] != rd_says[h] ->
     says[h] = 0; says_stop[h] = false
  :: else
  fi;
  if
  :: rd_since[h] == TTL && !READ_ANY_BEAT && !rd_stop[h] && rd_says[h] != epoch &&
       rd_says[h] != copy_epoch && rd_says[h] != says[h] ->
     rd_says[h] = 0; rd_stop[h] = false
  :: else
  fi;
  if :: REPORT_EPOCH && report[h] != epoch && report[h] != copy_epoch -> report[h] = 0 :: else fi
}
inline forget(h) {
  held[h] = 0; held_stop[h] = false; may_start[h] = !OUTAGE; leased[h] = false; last[h] = TTL;
  ran[h] = 0; lose_read(h)
}
inline free_row() { owner = NONE; epoch = 0; stop = false }
inline look(h) {
  says[h] = (OWNED(h) -> epoch : 0); says_stop[h] = (OWNED(h) && stop);
  says_hold[h] = (hold > 0 && HOLD == 2)
}

/* lease.ts, confirm(): never shortens, and counts from the start of the request */
inline confirm(h, ago) {
  if
  :: FROM_ANSWER -> left[h] = TTL; leased[h] = true
  :: !FROM_ANSWER && ago < TTL ->
     left[h] = (TTL - ago > left[h] -> TTL - ago : left[h]); leased[h] = true
  :: else
  fi
}

/* assignments.ts, take() */
inline take(h, it, it_stop) {
  if :: held[h] != it -> leased[h] = false; lease_over(h) :: else fi;
  held[h] = it; held_stop[h] = it_stop
}

/* newest-server.ts: an answer of the new server is remembered */
inline note_server(h, of_old) {
  if :: OLD_ANSWERS && !(of_old) && (NEWEST || HEARD) -> heard[h] = true :: else fi;
  if
  :: NEWEST && heard[0] && heard[1] ->
     old_owner = NONE; old_epoch = 0; old_stop = false
  :: else
  fi
}

inline hear(h) {
  note_server(h, says_old[h]);
  /* without an outage there is no hold, and the first answer is not waited for */
  may_start[h] = !says_hold[h];
  if
  :: READS(h) ->
     last[h] = since[h];
     if
     :: says[h] != 0 && says[h] == held[h] && says_stop[h] == held_stop[h] -> confirm(h, since[h])
     :: else
     fi
  :: else ->
     take(h, says[h], says_stop[h]);
     if
     :: says[h] != 0 || NODE_LEASE -> confirm(h, since[h])
     :: else
     fi
  fi;
  lose_beat(h);
  if :: rd_old[h] && heard[h] && NEWEST -> lose_read(h) :: else fi;
  tidy(h)
}

proctype Agent(byte h) {
  do
  :: atomic { agent[h] == AWAKE && !registered[h] &&
       (session[NAME(h)] == h || session[NAME(h)] == NONE || age[NAME(h)] > FREE || !SESSION) ->
       session[NAME(h)] = h; age[NAME(h)] = 0; registered[h] = true; lose_beat(h); report[h] = 0 }

  :: atomic { UP(h) && beat[h] == IDLE -> beat[h] = ASKED; since[h] = 0 }
  :: atomic { beat[h] != IDLE -> lose_beat(h) }
  :: atomic { UP(h) && beat[h] == ANSWERED && BELIEVED(h, says_old[h]) -> hear(h) }
  /* MR001 */
  :: atomic { UP(h) && beat[h] == ASKED && !SERVED(h) ->
       lose_beat(h); forget(h); registered[h] = false }
#if READ
  :: atomic { READS(h) && UP(h) && rd[h] == IDLE -> rd[h] = ASKED; rd_since[h] = last[h] }
  :: atomic { rd[h] != IDLE -> lose_read(h) }
  :: atomic { UP(h) && rd[h] == ANSWERED && BELIEVED(h, rd_old[h]) ->
       note_server(h, rd_old[h]);
       take(h, rd_says[h], rd_stop[h]);
       if
       :: READ_ANY_BEAT && held[h] != 0 -> confirm(h, last[h])
       :: !READ_ANY_BEAT && held[h] != 0 -> confirm(h, rd_since[h])
       :: else
       fi;
       lose_read(h); tidy(h) }
#endif
  :: atomic { UP(h) && held[h] != 0 && !held_stop[h] && leased[h] && left[h] > 0 &&
       (may_start[h] || ran[h] == held[h]) && work[h] == GONE ->
       work[h] = RUNS; ran[h] = (RAN -> held[h] : 0); tidy(h);
       assert(work[0] == GONE || work[1] == GONE) }
  /* ordered, no longer listed, or ended by itself: stopping is always allowed */
  :: atomic { agent[h] == AWAKE && work[h] == RUNS -> work[h] = DYING + KILL }
#if MOVE
  :: atomic { UP(h) && held[h] != 0 && held_stop[h] && work[h] == GONE && report[h] == 0 ->
       report[h] = held[h]; if :: RAN < 2 -> ran[h] = 0 :: else fi }
#endif
  :: atomic { agent[h] == AWAKE -> agent[h] = PAUSED }
  :: atomic { agent[h] == PAUSED -> agent[h] = AWAKE }
#if AGENT_DIES
  :: atomic { agent[h] != DEAD -> agent[h] = DEAD; registered[h] = false; forget(h) }
  :: atomic { agent[h] == DEAD -> agent[h] = AWAKE }
#endif
  od
}

proctype Warden(byte h) {
  do
  :: atomic { MUST_KILL(h) -> work[h] = DYING + KILL }
#if WARDEN_DIES
  :: atomic { warden[h] -> warden[h] = false }
#endif
  od
}

inline land(h) {
  if
  :: beat[h] == ASKED && SERVED(h) && ONE_STATEMENT -> look(h); beat[h] = LANDED
  :: beat[h] == ASKED && SERVED(h) && !ONE_STATEMENT ->
     age[NAME(h)] = 0; look(h); beat[h] = ANSWERED
  :: beat[h] == LANDED -> age[NAME(h)] = 0; beat[h] = ANSWERED
  fi
}

/* the deposed server: what it commits waits for ever for a synchronous standby, reads do not */
inline land_at_old(h) {
  says_old[h] = true; beat[h] = ANSWERED;
  says[h] = (OLD_OWNED(h) -> old_epoch : 0); says_stop[h] = (OLD_OWNED(h) && old_stop)
}
inline read_at_old(h) {
  rd_old[h] = true; rd[h] = ANSWERED;
  rd_says[h] = (OLD_OWNED(h) -> old_epoch : 0); rd_stop[h] = (OLD_OWNED(h) && old_stop)
}
inline depose() {
  if
  :: DEPOSED ->
     old_owner = owner; old_epoch = epoch; old_stop = stop;
     says_old[0] = (beat[0] == ANSWERED); says_old[1] = (beat[1] == ANSWERED);
     rd_old[0] = (rd[0] == ANSWERED); rd_old[1] = (rd[1] == ANSWERED)
  :: else
  fi
}

proctype Database() {
  do
  :: atomic { beat[0] == LANDED || beat[0] == ASKED && SERVED(0) -> land(0) }
  :: atomic { beat[1] == LANDED || beat[1] == ASKED && SERVED(1) -> land(1) }
#if DEPOSED
  :: atomic { GIVES(0) && !SYNC && beat[0] == ASKED -> land_at_old(0) }
  :: atomic { GIVES(1) && !SYNC && beat[1] == ASKED -> land_at_old(1) }
#if READ
  :: atomic { GIVES(0) && rd[0] == ASKED -> read_at_old(0) }
#endif
#endif
#if READ
  :: atomic { rd[0] == ASKED && SERVED(0) ->
       rd_says[0] = (OWNED(0) -> epoch : 0); rd_stop[0] = (OWNED(0) && stop);
       rd[0] = ANSWERED }
  :: atomic { rd[1] == ASKED && SERVED(1) ->
       rd_says[1] = (OWNED(1) -> epoch : 0); rd_stop[1] = (OWNED(1) && stop);
       rd[1] = ANSWERED }
#endif
  /* claim(): a node that is live by the database's clock */
  :: atomic { owner == NONE && hold == 0 && session[0] != NONE && age[0] <= TTL ->
       owner = 0; epoch = UNUSED }
#if !TWIN
  :: atomic { owner == NONE && hold == 0 && session[1] != NONE && age[1] <= TTL ->
       owner = 1; epoch = UNUSED }
#endif
  /* reap() */
#if REAP_LOCKED
  :: atomic { owner != NONE && hold == 0 && age[owner] > STALE ->
       if
       :: stepped && opinions < NOTICE ->
          opinions++;
          if :: opinions == NOTICE -> hold = STALE + 1 :: else -> free_row() fi
       :: else -> free_row()
       fi }
#else
  :: atomic { owner != NONE && hold == 0 && age[owner] > STALE && condemned == NONE ->
       condemned = owner }
  :: atomic { condemned != NONE ->
       if :: owner == condemned -> free_row() :: else fi;
       condemned = NONE }
#endif
#if MOVE == 1
  :: atomic { OWNED(0) && !stop -> stop = true }
  /* report(): a late duplicate of it may come once more */
  :: atomic { report[0] != 0 ->
       if
       :: OWNED(0) && stop && SERVED(0) && (epoch == report[0] || !REPORT_EPOCH) -> free_row()
       :: else
       fi;
       if :: report[0] = 0 :: skip fi }
#elif MOVE == 2
  :: atomic { OWNED(0) && age[1] <= TTL && session[1] != NONE -> owner = 1; epoch = UNUSED }
#endif
#if STEP
  :: atomic { !stepped ->
       stepped = true; age[0] = (age[0] + STEP > OLD -> OLD : age[0] + STEP);
       age[1] = (age[1] + STEP > OLD -> OLD : age[1] + STEP) }
#endif
#if OUTAGE == 2
  :: atomic { !copied -> copied = true; copy_owner = owner; copy_epoch = epoch; copy_stop = stop }
  :: atomic { copied && !out ->
       depose(); out = true; owner = copy_owner; epoch = copy_epoch; stop = copy_stop;
       copy_owner = NONE; copy_epoch = 0; copy_stop = false;
       /* a request to the lost server arrives nowhere; the agent may report once more */
       report[0] = 0; report[1] = 0;
       age[0] = OLD; age[1] = OLD; hold = (HOLD -> STALE + 1 : 0) }
#elif OUTAGE == 1
  :: atomic { !out ->
       depose(); out = true; age[0] = OLD; age[1] = OLD; hold = (HOLD -> STALE + 1 : 0) }
#endif
  od
}

/* The host's clock counts everything the agent and the warden count. The database's clock counts
   ages and holds. */
inline count(h) {
  if :: left[h] > 0 -> left[h]-- :: else fi;
  tidy(h);
  if :: beat[h] != IDLE && since[h] < TTL -> since[h]++ :: else fi;
  if :: rd[h] != IDLE && rd_since[h] < TTL -> rd_since[h]++ :: else fi;
  if :: last[h] < TTL -> last[h]++ :: else fi
}
inline die(h) {
  if :: work[h] > DYING -> work[h]-- :: work[h] == DYING -> work[h] = GONE :: else fi
}

proctype Clock() {
  do
  :: atomic { !MUST_KILL(0) && !MUST_KILL(1) &&
       !(HEARD && out && hold <= HEARD && !(heard[0] && heard[1])) ->
       if :: age[0] < OLD -> age[0]++ :: else fi;
       if :: age[1] < OLD -> age[1]++ :: else fi;
       if :: hold > 0 -> hold-- :: else fi;
       if
       :: count(0)
       :: missed > 0 -> missed--
       fi;
       count(1);
       die(0); die(1) }
  od
}

init {
  atomic {
    age[0] = OLD; age[1] = OLD; session[0] = NONE; session[1] = NONE; missed = DRIFT;
    agent[0] = AWAKE; agent[1] = AWAKE; warden[0] = true; warden[1] = true; forget(0); forget(1);
    run Agent(0); run Agent(1); run Warden(0); run Warden(1); run Database(); run Clock()
  }
}
