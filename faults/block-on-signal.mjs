// Loaded into an agent by the rig (NODE_OPTIONS=--import): after SIGUSR1 its event loop stands
// still for as long as the file FAULTS_BLOCK is there. A busy driver, a synchronous call on a dead
// disk, a long garbage collection look like this from outside; unlike SIGSTOP, other threads go on.
import { existsSync } from 'node:fs'

const file = process.env.FAULTS_BLOCK
const nobody = new Int32Array(new SharedArrayBuffer(4))
if (file) {
  process.on('SIGUSR1', () => {
    while (existsSync(`${file}.${process.pid}`)) Atomics.wait(nobody, 0, 0, 20)
  })
}
