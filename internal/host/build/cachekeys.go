package build

import (
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/sovereign-sql/sov/internal/artifact/dsse"
	"github.com/sovereign-sql/sov/internal/host/settings"
	"github.com/sovereign-sql/sov/pipeline/remote"
	"github.com/sovereign-sql/sov/pipeline/store"
)

// recordType is the type of the envelopes around the digests of records.
const recordType = "application/vnd.sov.cache.record.v1"

// CacheKeys are the keys for records of remote caches. Without keys, every record is trusted.
type CacheKeys struct {
	sign    dsse.PrivateKey // signs sent records; nil: they are not signed
	trusted []dsse.PublicKey
}

// LoadCacheKeys reads the keys that the setting cache_key names: public ones, and at most one
// private one, which signs. The environment variable may have the keys themselves in PEM instead of
// file names, for secrets of CI systems.
func LoadCacheKeys(value settings.Value, unseal dsse.Unseal) (k CacheKeys, err error) {
	text := strings.TrimSpace(value.One())
	if !settings.InPEM(text) {
		return k, k.load(value.Where, value.Values, unseal)
	}
	variable := value.Where
	for rest := []byte(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			if strings.TrimSpace(string(rest)) != "" || len(k.trusted) == 0 {
				err = fmt.Errorf("%s: there is something in it that is not a key in PEM", variable)
			}
			return k, err
		}
		private, public, err := dsse.ParseEither(variable, pem.EncodeToMemory(block), unseal)
		if err == nil {
			err = k.add(private, public)
		}
		if err != nil {
			return k, fmt.Errorf("%s: %w", variable, err)
		}
	}
}

func (k *CacheKeys) load(name string, files []string, unseal dsse.Unseal) error {
	for _, file := range files {
		private, public, err := dsse.Load(file, unseal)
		if err == nil {
			err = k.add(private, public)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func (k *CacheKeys) add(private dsse.PrivateKey, public dsse.PublicKey) error {
	if private != nil && k.sign != nil {
		return errors.New("there are two private keys, and only one can sign: name the public part of the other (sov key public)")
	}
	if private != nil {
		k.sign = private
	}
	k.trusted = append(k.trusted, public)
	return nil
}

// Trust returns the Trust of the keys for a remote cache.
func (k CacheKeys) Trust() (t remote.Trust) {
	if len(k.trusted) > 0 {
		t.Verify = k.verify
	}
	if k.sign != nil {
		t.Sign = func(text []byte) ([]byte, error) { return dsse.Seal(k.sign, recordType, text) }
	}
	return t
}

func (k CacheKeys) verify(text, envelope []byte) (signer string, err error) {
	for _, key := range k.trusted {
		signed, failed := dsse.Open(key, recordType, envelope)
		if failed == nil && string(signed) == string(text) {
			return key.ID(), nil
		}
		if failed == nil {
			failed = errors.New("its signature belongs to another record")
		}
		err = errors.Join(err, failed)
	}
	return "", err
}

// Believe returns a function that returns an error for a record that came from a remote cache at
// any time without a signature by one of the keys. It is nil if there are no keys.
func (k CacheKeys) Believe() func(*store.Record) error {
	if len(k.trusted) == 0 {
		return nil
	}
	ids := map[string]bool{}
	for _, key := range k.trusted {
		ids[key.ID()] = true
	}
	return func(r *store.Record) error {
		from := r.TakenFrom()
		if from == "" || ids[r.Signer] {
			return nil
		}
		return fmt.Errorf("taken from %s: %w", from, remote.ErrUnsigned)
	}
}
