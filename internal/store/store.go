// Package store says where the objects of backups live. Store is the contract,
// Local keeps objects as files below a folder, the packages s3, azure, gcs and
// sftpstore keep them elsewhere, and the package storetest is the suite that
// every Store must pass.
package store

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"
)

// Store keeps immutable objects under keys. It is the one seam between backups
// and the places that hold them.
//
// # Keys
//
// A key is what CheckKey accepts: slash-separated segments. Every method
// refuses any other with a pgmedic.KindUsage error. Folders don't exist by
// themselves: they come and go with the keys below them. A Store may be unable
// to hold both "a" and "a/b" and then refuses the second with ErrExists;
// portable callers use neither pair. A Store may be shared with other programs;
// their objects are listed like any.
//
// # Immutability
//
// An object never changes after its Put: it can be opened whole or in ranges
// any number of times, until it is deleted. Nothing is ever overwritten. There
// is no rename and no append.
//
// # Concurrency and order
//
// All methods may be called at the same time, from several goroutines,
// processes and hosts. Of several Puts of one key exactly one succeeds. What a
// Put or Delete that has returned did is seen by every call that begins later,
// List and Folders included. Objects become visible one by one, in the order in which their
// Puts end, so a manifest that is put after its data is never seen without it.
//
// # Contexts
//
// When ctx ends, a call stops soon and returns an error for which errors.Is
// finds context.Cause(ctx); its kind is pgmedic.KindInterrupted unless the cause
// brings one of its own. Whoever owns a reader that was passed in unblocks it.
//
// # Errors
//
// Callers branch with errors.Is on ErrNotFound and ErrExists, and with
// pgmedic.KindOf on the rest:
//
//   - pgmedic.KindNotFound, with ErrNotFound: there is no object of that key.
//   - pgmedic.KindConflict, with ErrExists: there is one already.
//   - pgmedic.KindUsage: the key, prefix or range is none; or the place itself
//     is named wrongly, such as a bucket that doesn't exist.
//   - pgmedic.KindFailed: no room is left: full disk, quota, size limit.
//   - pgmedic.KindUnreachable: everything else that kept the Store from doing
//     it: network, permission, I/O error. It proves nothing about the object.
//
// No Store checks what bytes mean, so none returns pgmedic.KindIntegrity.
// Errors and String never hold a secret.
//
// # Retries
//
// A Store may retry on its own what it knows not to have happened; what it
// returns is final, and callers that retry must bound it. Open, Stat, List,
// Folders and Delete may be called again after any error. A failed Put may be called again
// only with a reader that starts anew. A connection that is lost while a Put is
// being committed leaves it unknown whether the object exists; a second Put
// then says ErrExists of an object that may be the caller's own. Such an object
// is whole, and Stat tells its size.
//
// # What is not here
//
// Content types, storage classes, part sizes, parallelism, encryption at rest
// and retention locks belong to the Options of each kind of Store, which derives
// them from the key where they differ. Few kinds can do more than this contract;
// that is found by a type assertion on a small interface of its own. A Store
// that holds connections or descriptors has a Close on its concrete type, called
// by whoever constructed it and after all calls and readers have ended.
type Store interface {
	// Put creates the object key with all bytes that r gives until io.EOF, and
	// returns it as Stat would.
	//
	// It is all or nothing: nothing is visible under key before the object is
	// whole, nor ever if r returns another error, ctx ends, or Put fails; and
	// the object is durable (it survives a power cut) when Put returns nil.
	//
	// It never overwrites: an existing key is ErrExists, perhaps before
	// anything of r was read. An error of r ends the Put and is found in what
	// Put returns by errors.Is; r has ended when it returns io.EOF itself, and
	// any other error means that it was cut off. Callers that compress or
	// encrypt on the fly must therefore make a failure of the source an error
	// of r, and never an early io.EOF.
	//
	// Put reads r in one goroutine, doesn't close it, and doesn't touch it
	// after it has returned. It holds a bounded part of it in memory.
	Put(ctx context.Context, key string, r io.Reader) (Object, error)

	// Open returns a reader of length bytes of key from offset on; a negative
	// length means to the end. It gives fewer bytes than asked only if the
	// object ends before, and none if offset is at the end or past it. A
	// negative offset is refused.
	//
	// A missing key is ErrNotFound here, not at the first Read. The reader
	// returns io.EOF only after the last byte: being cut off is another
	// error. Deleting the object while it is read gives all bytes or an error.
	// ctx governs the reader, too, until it is closed, which the caller must
	// do. A reader is used by one goroutine at a time.
	Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error)

	// Stat returns the object, or ErrNotFound.
	Stat(ctx context.Context, key string) (Object, error)

	// List yields the objects whose keys begin with prefix, as a string: "a"
	// finds "a", "ab" and "a/b"; the empty prefix finds all. They come in the
	// byte order of their keys, each once. It ends after the first error,
	// which comes with a zero Object; what came before is then not all there
	// is. A prefix that no key can have is refused with an error.
	//
	// Unfinished Puts are never listed. Objects that are put or deleted
	// meanwhile may be listed or not; all others are. List holds a bounded
	// number of objects in memory (Local: those of one folder) and does
	// nothing before the first is asked for. The caller may stop early, and
	// may call other methods from within the loop, Delete included.
	List(ctx context.Context, prefix string) iter.Seq2[Object, error]

	// Folders yields the folders directly below folder, which is empty or ends in
	// a slash: each string that is folder, then one segment, then a slash, and
	// that some key begins with. "" finds "a/" of the key "a/b/c", "a/" finds
	// "a/b/". They come in byte order, each once, without the keys below them
	// being listed: what it costs depends on what lies directly below folder.
	// Objects there are passed over. A folder may be yielded of which all objects
	// have names that CheckKey refuses, or that this user can't read. The rest is as in List: errors, objects
	// that come and go meanwhile, memory, and stopping early.
	Folders(ctx context.Context, folder string) iter.Seq2[string, error]

	// Delete removes key durably. Deleting what isn't there is no error, so
	// that it can be repeated.
	Delete(ctx context.Context, key string) error

	// String names the place for people, such as "folder /var/backups". It
	// holds no secret.
	String() string
}

// Object is what a Store knows of an object.
type Object struct {
	// Key is the whole key, not only its last segment.
	Key       string
	SizeBytes int64
	// ModifiedAt is when the object was written, in UTC, by the clock of the
	// place that holds it.
	ModifiedAt time.Time
}

var (
	// ErrNotFound is found by errors.Is in errors about keys that aren't there.
	ErrNotFound = errors.New("no such object")
	// ErrExists is found by errors.Is in errors about keys that are taken.
	ErrExists = errors.New("object exists already")
)
