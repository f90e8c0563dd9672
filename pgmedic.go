// Package pgmedic holds the nouns that every part of pgmedic speaks of: a
// Backup and its objects, a Receipt that says what was proven of it, a Finding
// about a server, an Event of progress, and an Error with its kind and hint.
//
// It imports the standard library only, opens nothing and decides nothing; the
// JSON forms of Backup, Receipt and Finding are stored and published, so their
// field names never change meaning within one format number.
package pgmedic
