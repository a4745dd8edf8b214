import * as Context from "effect/Context"

/** A sliding window of calls and of the retries and hedges spent on them, in slots; time in milliseconds is passed in. */
export interface BudgetWindow {
  readonly slotMillis: number
  readonly ratio: number
  readonly floor: number
  readonly calls: Float64Array
  readonly spent: Float64Array
  slot: number
  totalCalls: number
  totalSpent: number
  /** Reserved, but not yet launched: sleepers in a backoff. They count wherever the window has moved to. */
  waiting: number
}

/** The window that has already counted the call which a fiber makes an attempt of. */
export const Counted: Context.Reference<BudgetWindow | undefined> = Context.Reference<BudgetWindow | undefined>(
  "seaworthy/Budget/Counted",
  { defaultValue: () => undefined }
)

const slots = 10

/** `floor` is what is allowed in a window without any traffic. */
export const make = (windowMillis: number, ratio: number, floor: number): BudgetWindow => ({
  slotMillis: windowMillis / slots,
  ratio,
  floor,
  calls: new Float64Array(slots),
  spent: new Float64Array(slots),
  slot: -Infinity,
  totalCalls: 0,
  totalSpent: 0,
  waiting: 0
})

const advance = (self: BudgetWindow, now: number): number => {
  const slot = Math.floor(now / self.slotMillis)
  if (slot > self.slot) {
    if (slot - self.slot >= slots) {
      self.calls.fill(0)
      self.spent.fill(0)
      self.totalCalls = 0
      self.totalSpent = 0
    } else {
      for (let passed = self.slot + 1; passed <= slot; passed++) {
        const index = passed % slots
        self.totalCalls -= self.calls[index]!
        self.totalSpent -= self.spent[index]!
        self.calls[index] = 0
        self.spent[index] = 0
      }
    }
    self.slot = slot
  }
  return self.slot % slots
}

/** Counts one call: what the budget is a share of. */
export const call = (self: BudgetWindow, now: number): void => {
  const index = advance(self, now)
  self.calls[index] = self.calls[index]! + 1
  self.totalCalls++
}

/** How many more retries and hedges are allowed now; a fraction is possible. */
export const available = (self: BudgetWindow, now: number): number => {
  advance(self, now)
  return self.floor + self.ratio * self.totalCalls - self.totalSpent - self.waiting
}

/** Sets one retry aside. False, and nothing changed, when the budget does not allow it. */
export const reserve = (self: BudgetWindow, now: number): boolean => {
  // A hair of tolerance: 0.1 * 10 calls must allow one retry whatever the rounding.
  if (available(self, now) < 1 - 1e-9) return false
  self.waiting++
  return true
}

/** The retry that was set aside begins: it is spent from now on, for one window. */
export const launch = (self: BudgetWindow, now: number): void => {
  const index = advance(self, now)
  self.waiting--
  self.spent[index] = self.spent[index]! + 1
  self.totalSpent++
}

/** The retry that was set aside will not happen. */
export const refund = (self: BudgetWindow): void => {
  self.waiting--
}
