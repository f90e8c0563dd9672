/*
 * A security label provider named "dummy" that takes every label, for PostgreSQL
 * 15 to 17. It declares the little that it needs by itself, so that it compiles
 * where the server's header files are not installed.
 */
typedef struct
{
	int			len;
	int			version;
	int			funcmaxargs;
	int			indexmaxkeys;
	int			namedatalen;
	int			float8byval;
	char		abi_extra[32];
} Pg_magic_struct;

extern void register_label_provider(const char *name, void (*hook) (const void *object, const char *label));

const Pg_magic_struct *Pg_magic_func(void);
void		_PG_init(void);

const Pg_magic_struct *
Pg_magic_func(void)
{
	static const Pg_magic_struct magic = {sizeof(Pg_magic_struct), MAJOR * 100, 100, 32, 64, 1, "PostgreSQL"};

	return &magic;
}

static void
take(const void *object, const char *label)
{
	(void) object;
	(void) label;
}

void
_PG_init(void)
{
	register_label_provider("dummy", take);
}
