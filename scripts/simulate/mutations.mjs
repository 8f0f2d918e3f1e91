/**
 * Protections that are taken out one at a time, to see that the simulation notices. `find` stands exactly once in `file`.
 *
 * Not here because worlds that would notice are too rare, and tested by themselves: an end that changes, reports on
 * executions that nobody knows (`test/orchestrator/durability.test.ts`, `robustness.test.ts`).
 */
export const MUTATIONS = [
  {
    name: 'reports count whatever their sequence',
    file: 'src/orchestrator/sync-handler.ts',
    find: '  if (observed.sequence <= before.observed.sequence) return before\n',
    replace: '',
  },
  {
    name: 'events that are known are written again',
    file: 'src/orchestrator/sync-handler.ts',
    find: 'report.events.filter((event) => event.index > (before.eventIndex ?? 0))',
    replace: 'report.events',
  },
  {
    name: 'an end is stored without a look at its job',
    file: 'src/orchestrator/sync-handler.ts',
    find: 'return isTerminalObservedState(after.observed.state) || (isTimed',
    replace: 'return (isTimed',
  },
  {
    name: 'evaluations are forgotten with a restart',
    file: 'src/orchestrator/broker.ts',
    find: '    for (const evaluation of evaluations) {\n',
    replace: '    for (const evaluation of [] as Evaluation[]) {\n',
  },
  {
    name: 'a second live execution of a slot is started',
    file: 'src/orchestrator/review-batch.ts',
    find: "const idle = open.filter((slot) => !review.tries(slot).some((attempt) => attempt.fate === 'live'))",
    replace: 'const idle = open',
  },
  {
    name: 'retries have no bound',
    file: 'src/orchestrator/review-batch.ts',
    find: 'review.tries(slot).length >= limits.triesMax',
    replace: 'review.tries(slot).length >= 100',
  },
  {
    name: 'nodes are filled without end',
    file: 'src/orchestrator/placement.ts',
    find: '  if (factor === Infinity) return true\n',
    replace: '  if (factor > 0) return true\n',
  },
  {
    name: 'a lost node is never given up',
    file: 'src/orchestrator/attempts.ts',
    find: 'if (node === undefined || node.lost) return STOP_NODE_GONE',
    replace: 'if (node === undefined) return STOP_NODE_GONE',
  },
  {
    name: 'a clock that is set makes nodes silent',
    file: 'src/orchestrator/node-registry.ts',
    find: 'node.heardMs = Math.min(',
    replace: 'Math.min(',
  },
  {
    name: 'a node that returns stays lost',
    file: 'src/orchestrator/node-registry.ts',
    find: "    if (view !== undefined && node.record.connection === 'CONNECTED') view.lost = false\n",
    replace: '',
  },
  {
    name: 'daemons do not hear of nodes that join',
    file: 'src/orchestrator/node-registry.ts',
    find: "if (job.spec.Type === 'daemon') look(job, 'node-join')",
    replace: 'void job',
  },
  {
    name: 'daemons stay where labels no longer match',
    file: 'src/orchestrator/review-daemon.ts',
    find: '  stopMismatched(review)\n',
    replace: '',
  },
  {
    name: 'idempotency tokens are forgotten',
    file: 'src/orchestrator/submissions.ts',
    find: '    if (existing !== undefined) return replay(existing)\n    // Somebody',
    replace: '    // Somebody',
  },
  {
    name: 'constraints are not looked at',
    file: 'src/model/constraints.ts',
    find: '  return { matches: reasons.length === 0, reasons, favoured }',
    replace: '  return { matches: true, reasons, favoured }',
  },
  {
    name: 'priorities are not looked at',
    file: 'src/orchestrator/evaluations.ts',
    find: '    priority: job.spec.Priority,\n',
    replace: '    priority: -job.spec.Priority,\n',
  },
  {
    name: 'a retry goes where the job failed',
    file: 'src/orchestrator/placement.ts',
    find: 'a.failures - b.failures ||',
    replace: 'b.failures - a.failures ||',
  },
  {
    name: 'the total timeout is not looked at',
    file: 'src/orchestrator/reconcile.ts',
    find: '!review.timeOut()',
    replace: '!(false as boolean)',
  },
  {
    name: 'an answer rests on what may be lost',
    file: 'src/orchestrator/writer.ts',
    find: 'return { result, durable: this.#newest }',
    replace: 'return { result, durable: Promise.resolve() }',
  },
  {
    name: 'a rejected node keeps what it runs',
    file: 'src/orchestrator/attempts.ts',
    find: "return node.record.membership === 'REJECTED' ? STOP_NODE_REJECTED : undefined",
    replace: 'return undefined',
  },
  {
    name: 'a refusing daemon node is not asked again',
    file: 'src/orchestrator/review-daemon.ts',
    find: '  askAgain(review, byNode)\n',
    replace: '',
  },
  {
    name: 'a node runs again what it forgot',
    file: 'src/compute/compute-node.ts',
    find: 'damage !== undefined || observedSequence > 0',
    replace: 'damage !== undefined',
  },
  {
    name: 'a node does not write down what it runs',
    file: 'src/compute/execution-book.ts',
    find: "      if (change.phase === 'starting') await syncToDisk(record.dirs.stateFile, record.dirs.root)\n",
    replace: '',
  },
  {
    name: 'a node hands out more than it has',
    file: 'src/compute/waiting-line.ts',
    find: 'if (fitsResources(waiting.resources, free)) return',
    replace: 'if (true) return',
  },
  {
    name: 'a node keeps unacknowledged reports to itself',
    file: 'src/compute/execution-book.ts',
    find: 'record.acknowledged = Math.min(sequence, record.observed.sequence)',
    replace: 'record.acknowledged = record.observed.sequence + 1',
  },
  {
    name: 'a node does not stop what is not wanted',
    file: 'src/compute/compute-node.ts',
    find: "if (state === 'Stopped') live.controller.abort(stoppedEnd(message))",
    replace: 'void live',
  },
]
