package main

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/imgus/worker/configs"
	"github.com/imgus/worker/privacy"
)

// eraser is one run of worker erase.
type eraser struct {
	app                                 *app
	subject, receipt, verify, publicKey string
	unsigned                            bool
}

func (a *app) eraseCommand() *cobra.Command {
	e := eraser{app: a}
	cmd := &cobra.Command{
		Use:   "erase --subject S [--receipt FILE]\n  worker erase --verify FILE [--public-key FILE]",
		Short: "Erase everything of a subject, and prove it",
		Long: `Erases everything of a subject: what waits in the queues, what runs, photos,
images, records, all versions of them, unfinished uploads and traces in Redis. Of
each job only a record stays that says it was erased. It may be run again at any
time, and must be after an error or a kill: only a receipt says that it is done.

The receipt is printed, signed with privacy.receipt_key. --verify checks one
without any service: against --public-key, or else privacy.receipt_key. With
neither it only tells that the receipt is what was signed with the key it names,
whoever has that, and the exit status is 1.`,
		Example: `  worker erase --subject user-4711 --receipt receipt.json
  worker erase --verify receipt.json --public-key receipt.pub`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case e.verify == "":
				return e.erase(cmd)
			case e.subject != "" || e.receipt != "":
				return usage("--verify goes with neither --subject nor --receipt")
			}
			return e.check()
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&e.subject, "subject", "", subjectUsage)
	flags.StringVar(&e.receipt, "receipt", "", "write the receipt to `FILE` too")
	flags.BoolVar(&e.unsigned, "unsigned", false, "go on without privacy.receipt_key, with a receipt that proves nothing")
	flags.StringVar(&e.verify, "verify", "", "check the receipt in `FILE` (- for standard input)")
	flags.StringVar(&e.publicKey, "public-key", "", "`FILE` with the key to check against: PEM or base64")
	return cmd
}

func (e *eraser) erase(cmd *cobra.Command) error {
	if e.subject == "" {
		return usage("give --subject or --verify")
	}
	key, err := e.signingKey()
	if err != nil {
		return err
	}
	return e.app.withRights(cmd, e.subject, func(ctx context.Context, r *privacy.Rights, subject string) error {
		// Before anything is erased: a receipt that cannot be written is of no use.
		var file *os.File
		if e.receipt != "" {
			if file, err = os.CreateTemp(filepath.Dir(e.receipt), ".receipt-*"); err != nil {
				return usage("--receipt: %w", err)
			}
			defer os.Remove(file.Name())
			defer file.Close()
		}
		receipt, err := r.Erase(ctx, subject)
		if err != nil {
			return fmt.Errorf("not everything is erased yet; run it again: %w", err)
		}
		signed, err := privacy.Sign(receipt, key)
		if err != nil {
			return err
		}
		printErr := e.app.print(signed)
		if file == nil {
			return printErr
		}
		return errors.Join(printErr, keep(file, e.receipt, signed))
	})
}

// signingKey is the configured key, nil if none shall be used.
func (e *eraser) signingKey() (ed25519.PrivateKey, error) {
	c, err := e.app.load(configs.NeedStorage, configs.NeedSubjectKey)
	if err != nil {
		return nil, err
	}
	if c.Privacy.ReceiptKey != "" {
		return privacy.ParsePrivateKey(secret(c.Privacy.ReceiptKey))
	}
	if !e.unsigned {
		return nil, &exitError{status: exitConfig, err: errors.New("privacy.receipt_key must be set, so that the receipt can be signed (openssl genpkey -algorithm ed25519); or add --unsigned")}
	}
	fmt.Fprintln(e.app.stderr, "worker: the receipt is not signed and proves nothing")
	return nil, nil
}

// keep gives a file that was written whole its name.
func keep(file *os.File, name string, v any) error {
	data, err := json.Marshal(v)
	if err == nil {
		_, err = file.Write(append(data, '\n'))
	}
	if err == nil {
		err = file.Sync()
	}
	if err == nil {
		err = os.Rename(file.Name(), name)
	}
	if err != nil {
		return fmt.Errorf("write receipt: %w", err)
	}
	return nil
}

// check verifies a receipt offline.
func (e *eraser) check() error {
	in := e.app.stdin
	if e.verify != "-" {
		file, err := os.Open(e.verify)
		if err != nil {
			return usage("--verify: %w", err)
		}
		defer file.Close()
		in = file
	}
	data, err := io.ReadAll(io.LimitReader(in, 1<<20))
	if err != nil {
		return usage("--verify: %w", err)
	}
	key, err := e.verifyingKey()
	if err != nil {
		return err
	}
	receipt, err := privacy.Verify(data, key)
	if err != nil {
		return err
	}
	if err := e.printVerified(receipt, key != nil); err != nil || key != nil {
		return err
	}
	fmt.Fprintln(e.app.stderr, "worker: nobody said whose signature to expect: give --public-key, or set privacy.receipt_key")
	return failed()
}

// verifyingKey is the one that was given, or the public half of the configured
// one, or nil.
func (e *eraser) verifyingKey() (ed25519.PublicKey, error) {
	if e.publicKey != "" {
		text, err := os.ReadFile(e.publicKey)
		if err != nil {
			return nil, usage("--public-key: %w", err)
		}
		key, err := privacy.ParsePublicKey(string(text))
		if err != nil {
			return nil, usage("--public-key: %w", err)
		}
		return key, nil
	}
	c, err := e.app.load()
	if err != nil || c.Privacy.ReceiptKey == "" {
		return nil, err
	}
	private, err := privacy.ParsePrivateKey(secret(c.Privacy.ReceiptKey))
	if err != nil {
		return nil, err
	}
	public, _ := private.Public().(ed25519.PublicKey)
	return public, nil
}

func (e *eraser) printVerified(r privacy.Receipt, trusted bool) error {
	if e.app.json {
		return e.app.print(struct {
			Valid   bool            `json:"valid"`
			Trusted bool            `json:"trusted"`
			Receipt privacy.Receipt `json:"receipt"`
		}{true, trusted, r})
	}
	_, err := fmt.Fprintf(e.app.stdout, "valid: subject %s, erased %s: %d jobs, %d objects (%d bytes), %d queue entries\n",
		r.Subject, r.Finished.Format("2006-01-02 15:04:05 MST"), r.Jobs.Count, r.Objects.Count, r.Bytes, r.QueueEntries)
	return err
}
