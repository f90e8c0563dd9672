package azure_test

import (
	"testing"

	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/store/azure"
	"github.com/pgmedic/pgmedic/internal/store/azuretest"
	"github.com/pgmedic/pgmedic/internal/store/remote"
	"github.com/pgmedic/pgmedic/internal/store/storetest"
)

// open returns the store of a new container, changed by the functions.
func open(t *testing.T, server *azuretest.Server, change ...func(*azure.Options)) *remote.Locking {
	t.Helper()
	o := server.Options(server.Container())
	o.PartSizeBytes, o.MaxAttempts = azure.MinPartSizeBytes, 3
	for _, f := range change {
		f(&o)
	}
	s, err := azure.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestAzureConforms(t *testing.T) {
	server := azuretest.Start(t)
	storetest.Run(t, func(t *testing.T) store.Store { return open(t, server) })
}
