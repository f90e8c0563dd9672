package config

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Azure says how a container is reached and how objects are written to it.
type Azure struct {
	Account          string `yaml:"account" env:"AZURE_STORAGE_ACCOUNT" doc:"Storage account. Empty: that of connection_string."`
	ConnectionString Secret `yaml:"connection_string" env:"AZURE_STORAGE_CONNECTION_STRING" secret:"true" doc:"Connection string of the account, used instead of key and sas_token."`
	Key              Secret `yaml:"key" env:"AZURE_STORAGE_KEY" secret:"true" doc:"Key of the account, used instead of sas_token."`
	SASToken         Secret `yaml:"sas_token" env:"AZURE_STORAGE_SAS_TOKEN" secret:"true" doc:"Shared access signature of the container."`
	Endpoint         string `yaml:"endpoint" env:"PGMEDIC_AZURE_ENDPOINT" doc:"URL of the account's blobs, without credentials. Empty: https://ACCOUNT.blob.core.windows.net."`
	AccessTier       string `yaml:"access_tier" env:"PGMEDIC_AZURE_ACCESS_TIER" default:"default" enum:"default,hot,cool,cold" doc:"Access tier of new objects: hot, cool, cold, or the account's default."`
	PartSizeMiB      int    `yaml:"part_size_mib" env:"PGMEDIC_AZURE_PART_SIZE_MIB" default:"8" min:"1" max:"250" doc:"Initial size of the blocks of an upload. An object can be up to 570,000 times as large."`
	Concurrency      int    `yaml:"concurrency" env:"PGMEDIC_AZURE_CONCURRENCY" default:"2" min:"1" max:"64" doc:"Blocks of one upload that are sent concurrently. Each writer holds one more in memory."`
}

// GCS says how a bucket of Google Cloud Storage is reached and how objects are written
// to it.
type GCS struct {
	CredentialsFile string `yaml:"credentials_file" env:"GOOGLE_APPLICATION_CREDENTIALS" path:"true" doc:"File of credentials, such as the key of a service account. Empty: the identity of this machine, or gcloud's."`
	Endpoint        string `yaml:"endpoint" env:"PGMEDIC_GCS_ENDPOINT" doc:"URL of a server other than https://storage.googleapis.com, such as a private endpoint."`
	StorageClass    string `yaml:"storage_class" env:"PGMEDIC_GCS_STORAGE_CLASS" default:"default" enum:"default,standard,nearline,coldline,archive" doc:"Storage class of new objects: standard, nearline, coldline, archive, or the bucket's default."`
	UserProject     string `yaml:"user_project" env:"PGMEDIC_GCS_USER_PROJECT" doc:"Project that pays for requests, if the bucket has the requester pay."`
	PartSizeMiB     int    `yaml:"part_size_mib" env:"PGMEDIC_GCS_PART_SIZE_MIB" default:"16" min:"1" max:"256" doc:"How much of an object is sent in one request. Each writer holds twice as much in memory."`
}

// inherit gives a copy that has no account and no credentials of its own those of the
// first store, as the environment's are everybody's.
func (a *Access) inherit(from Access) {
	if z := &a.Azure; z.Account == "" && z.Endpoint == "" && z.ConnectionString == "" && z.Key == "" && z.SASToken == "" && len(a.lateOf("azure")) == 0 {
		z.Account, z.Endpoint, z.ConnectionString, z.Key, z.SASToken = from.Azure.Account, from.Azure.Endpoint, from.Azure.ConnectionString, from.Azure.Key, from.Azure.SASToken
		a.late = append(a.late, from.lateOf("azure")...)
		a.kept = append(a.kept, of("azure", from.kept)...)
	}
	if a.GCS.CredentialsFile == "" {
		a.GCS.CredentialsFile = from.GCS.CredentialsFile
	}
}

// SmallestParts returns the same with uploads in the smallest parts, for trying with
// little.
func (a Access) SmallestParts() Access {
	for _, f := range fields() {
		switch f.key {
		case "backup.s3.part_size_mib":
			a.S3.PartSizeMiB = f.least()
		case "backup.azure.part_size_mib":
			a.Azure.PartSizeMiB = f.least()
		case "backup.gcs.part_size_mib":
			a.GCS.PartSizeMiB = f.least()
		}
	}
	return a
}

// least is the smallest value of a number.
func (f field) least() int {
	n, _ := strconv.Atoi(f.min) // a tag, which a test reads
	return n
}

// CloudStorage is a copy in the way that existing deployments ask for one.
type CloudStorage struct {
	Enabled        bool   `yaml:"enabled" env:"CLOUD_STORAGE_ENABLED" default:"false" doc:"true copies each backup to the bucket."`
	Provider       string `yaml:"provider" env:"CLOUD_STORAGE_PROVIDER" default:"aws" enum:"aws,azure,gcp" doc:"Whose bucket: aws, azure or gcp."`
	S3Bucket       string `yaml:"s3_bucket" env:"AWS_S3_BUCKET" rule:"bucket s3" doc:"Bucket at AWS, or bucket/prefix. Access is as set in backup.s3, with the AWS SDK's credentials."`
	AzureContainer string `yaml:"azure_container" env:"AZURE_STORAGE_CONTAINER" rule:"bucket azblob" doc:"Container at Azure, or container/prefix. Access is as set in backup.azure."`
	GCPBucket      string `yaml:"gcp_bucket" env:"GCP_BUCKET" rule:"bucket gs" doc:"Bucket at Google, or bucket/prefix. Access is as set in backup.gcs."`
}

// provided returns the cloud of the provider, its bucket, and the setting that names
// that.
func (s CloudStorage) provided() (cloud Cloud, bucket, key, env string) {
	switch s.Provider {
	case "azure":
		return CloudAzure, s.AzureContainer, "cloud_storage.azure_container", "AZURE_STORAGE_CONTAINER"
	case "gcp":
		return CloudGCS, s.GCPBucket, "cloud_storage.gcp_bucket", "GCP_BUCKET"
	}
	return CloudS3, s.S3Bucket, "cloud_storage.s3_bucket", "AWS_S3_BUCKET"
}

// cloudName is what the copy that CloudStorage asks for is called.
const cloudName = "cloud"

// cloudCopy returns the copy that CloudStorage asks for, if it does.
func (c *Config) cloudCopy() (one Copy, asked bool) {
	cloud, bucket, key, _ := c.CloudStorage.provided()
	if !c.CloudStorage.Enabled || bucket == "" {
		return Copy{}, false
	}
	return Copy{Name: cloudName, Store: cloud.url(bucket), Access: c.Backup.Access, origin: c.origins[key]}, true
}

// checkCloud refuses a copy in the cloud for which no bucket is named.
func (c *Config) checkCloud() error {
	if _, bucket, _, env := c.CloudStorage.provided(); c.CloudStorage.Enabled && bucket == "" {
		return usage(c.origins["cloud_storage.enabled"].subject("cloud_storage.enabled")+" asks for copies in a bucket, and none is named",
			"set "+env+", or set CLOUD_STORAGE_ENABLED to false")
	}
	return nil
}

// bucketRule is what the rules of settings begin with that name a bucket; the cloud
// follows.
const bucketRule = "bucket "

// checkBucket returns a bucket, perhaps with a prefix, without its scheme before it.
func checkBucket(text string, of Cloud) (bucket, hint string, err error) {
	bucket = strings.TrimSuffix(strings.TrimPrefix(text, of.url("")), "/")
	name, _, _ := strings.Cut(bucket, "/")
	if !regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`).MatchString(name) {
		return "", "write bucket or bucket/prefix", fmt.Errorf("is not a bucket's name")
	}
	if _, _, err := checkStore(of.url(bucket), ""); err != nil {
		return "", "write bucket or bucket/prefix", err
	}
	return bucket, "", nil
}
