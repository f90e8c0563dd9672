package pgmedic

// The kinds of places that a drill restores to.
const (
	// ScratchPrivate is a server of the drill's own.
	ScratchPrivate = "private-server"
	// ScratchOnServer is a temporary database on the configured server.
	ScratchOnServer = "on-server"
	// ScratchGiven is a temporary database on a server that was named for it.
	ScratchGiven = "given-server"
)

// Wall names one thing that keeps the content of a backup, which may run code in
// the scratch server of a drill, from the rest of the machine.
type Wall string

// The walls of a drill's private server.
const (
	// WallOwnUser is a user id that nothing else has, so that no file and no
	// process of another user is the content's. Only root can give one.
	WallOwnUser Wall = "own user"
	// WallFiles leaves of the file system the server's own folder and, to be
	// read, the installed programs and libraries.
	WallFiles Wall = "files"
	// WallNetwork leaves no network, not even this machine's own addresses.
	WallNetwork Wall = "network"
	// WallSockets refuses connections to the Unix sockets of other programs.
	WallSockets Wall = "sockets"
	// WallProcesses lets no other process be signalled, traced or read.
	WallProcesses Wall = "processes"
	// WallPrivileges means that no program run inside gains privileges.
	WallPrivileges Wall = "privileges"
	// WallMemory bounds the memory of each process, and has the system end one
	// of them first where memory runs out.
	WallMemory Wall = "memory"
	// WallLimits bounds processes, open files and the disk, and forbids core
	// dumps.
	WallLimits Wall = "limits"
)

// Walls returns all walls, in the order in which they are listed.
func Walls() []Wall {
	return []Wall{
		WallOwnUser, WallFiles, WallNetwork, WallSockets, WallProcesses, WallPrivileges, WallMemory, WallLimits,
	}
}

// Scratch describes where a drill restored to. A time to recover means little
// without it.
type Scratch struct {
	Kind    string `json:"kind"` // private-server, on-server or given-server
	Version string `json:"version"`
	// Server is the address of a server that is not the drill's own.
	Server   string            `json:"server,omitempty"`
	Settings map[string]string `json:"settings"`
	// Durable is false where the settings don't wait for the disk, as a
	// production server's do: the time then says nothing about a recovery.
	Durable bool `json:"durable"`
	// NoNetwork is true where nothing in the scratch can reach a network.
	NoNetwork bool `json:"no_network"`
	// Walls are those that were seen to stand around a private server, and
	// MissingWalls those that this system could not give. Both are empty for
	// another server, where nothing contains the content, and in receipts of
	// versions that recorded neither.
	Walls        []Wall `json:"walls,omitempty"`
	MissingWalls []Wall `json:"missing_walls,omitempty"`
	// CPUs, MemoryBytes and Platform are the machine's, and zero or empty where
	// they can't be known.
	CPUs        int    `json:"cpus,omitempty"`
	MemoryBytes int64  `json:"memory_bytes,omitempty"`
	Platform    string `json:"platform,omitempty"` // linux/amd64
}

// Counted is how much a drill checked.
type Counted struct {
	// Tables are those whose rows were counted, partitioned ones once.
	Tables int   `json:"tables"`
	Rows   int64 `json:"rows"`
	// Constraints are those that the server holds valid in the copy.
	Constraints int `json:"constraints"`
	// Indexes and Heaps are those that amcheck read whole.
	Indexes    int `json:"indexes"`
	Heaps      int `json:"heaps"`
	Assertions int `json:"assertions"`
}
