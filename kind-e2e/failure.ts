/** Something that the person in front of the terminal can act on: printed as one message, without a stack. */
export class Failure extends Error {}
