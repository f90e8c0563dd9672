package pgmedic

// Event is progress: what a run is doing now. Engines send events to a
// function that they are given and never print.
type Event struct {
	// Step names what is being done, in the words of the docs: dump, load.
	Step string
	// Object is what it is done to, such as a table, or empty.
	Object string
	// DoneBytes counts plain bytes so far. TotalBytes is what is expected, or
	// zero if it cannot be known.
	DoneBytes, TotalBytes int64
	// Finished is true on the last event of a step that succeeded, Failed on
	// that of one that did not.
	Finished, Failed bool
}
