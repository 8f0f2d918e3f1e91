/**
 * Why a call did not do what was asked.
 *
 * - `denied`: the job has no network
 * - `unavailable`: the gateway has ended the conversation, or is gone; nothing leaves any more
 * - `invalid`: method, URL, a header or the length of the body is malformed, or a header is not the program's to set
 * - `too_large`: the head of the request is larger than the gateway takes
 * - `too_many`: so many requests are open as one program may have
 * - `order`: the call does not fit what was done before, for example a body longer than announced
 * - `cut`: the other side ended early: the rest of the body is not read, or the response is not whole
 */
export type HttpProblem = 'denied' | 'unavailable' | 'invalid' | 'too_large' | 'too_many' | 'order' | 'cut'

export class HttpFailure extends Error {
  override readonly name = 'HttpFailure'
  readonly problem: HttpProblem

  constructor(problem: HttpProblem) {
    super(problem)
    this.problem = problem
  }
}
