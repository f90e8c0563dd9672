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

// Scratch describes where a drill restored to. A time to recover means little
// without it.
type Scratch struct {
	Kind    string `json:"kind"` // private-server, on-server or given-server
	Version string `json:"version"`
	// Server is the address of a server that is not the drill's own.
	Server   string            `json:"server,omitempty"`
	Settings map[string]string `json:"settings"`
	// Durable is false where the settings don't wait for the disk, as a
	// production server's do: the time is then no time to recover.
	Durable bool `json:"durable"`
	// NoNetwork is true where nothing in the scratch can reach a network.
	NoNetwork bool `json:"no_network"`
	// CPUs, MemoryBytes and Platform are the machine's, and zero or empty where
	// they can't be known.
	CPUs        int    `json:"cpus,omitempty"`
	MemoryBytes int64  `json:"memory_bytes,omitempty"`
	Platform    string `json:"platform,omitempty"` // linux/amd64
}

// Counted is how much a drill looked at.
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
