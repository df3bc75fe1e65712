/** Every kind of event there is. A test compares them with what the SQL writes, and with the table of docs/operating.md. */
export const EVENT_KINDS: readonly string[] = [
  'claimed', 'released', 'reaped', 'refused', 'reap_blocked', 'stop_wanted', 'move_wanted', 'move_dropped', 'handed_over', 'handover_failed', 'claim_failed',
  'node_registered', 'node_left', 'node_added', 'node_changed', 'node_enabled', 'node_disabled', 'node_forgotten', 'node_rebound',
  'drain_started', 'drain_changed', 'drain_ended', 'node_drained', 'drain_failed', 'rebalance_started',
  'hold_started', 'reaping_paused', 'reaping_resumed', 'worker_lost', 'round_failed', 'load_recounted',
]
