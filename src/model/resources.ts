/** Amounts of machine. All numbers are finite and ≥ 0. */
export interface Resources {
  /** Cores; fractions allowed. */
  cpu: number
  memoryBytes: number
  diskBytes: number
  gpu: number
}

export const NO_RESOURCES: Resources = Object.freeze({ cpu: 0, memoryBytes: 0, diskBytes: 0, gpu: 0 })
