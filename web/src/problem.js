/** Something that the person at the page can put right. The message is one line: what is wrong, and what to do. */
export class Problem extends Error {}
