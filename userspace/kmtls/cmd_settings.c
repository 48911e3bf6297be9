/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_settings.c - kmtls settings get, set: the configuration as it is now. */
#include <string.h>

#include "cli.h"
#include "json.h"
#include "table.h"

static const char *explain(const char *changes)
{
	if (!strcmp(changes, "map"))
		return "now, in the map: stays";
	if (!strcmp(changes, "run-time"))
		return "now, until a restart";
	return "needs a restart";
}

static int put_setting(struct kmtls_table *table, const json_t *setting)
{
	const char *name, *value, *changes;

	if (json_unpack((json_t *)setting, "{s:s, s:s, s:s}", "name", &name, "value", &value,
			"changes", &changes))
		return -1;
	kmtls_table_cell(table, KMTLS_PLAIN, "%s", name);
	kmtls_table_cell(table, KMTLS_PLAIN, "%s", value);
	kmtls_table_cell(table, strcmp(changes, "restart") ? KMTLS_PLAIN : KMTLS_DIM, "%s",
			 explain(changes));
	return 0;
}

static int show(const struct kmtls_cli *cli, const json_t *list)
{
	static const char *const headings[] = { "NAME", "VALUE", "CHANGES", NULL };

	if (!cli->json)
		return kmtls_table_list(cli, list, headings, put_setting);
	kmtls_client_print(list);
	return KMTLS_EXIT_OK;
}

int kmtls_cmd_settings_get(struct kmtls_cli *cli, int argc, char **argv)
{
	static const char *const names[] = { "NAME", NULL };
	__cleanup_json json_t *result = NULL;
	json_t *arguments = NULL;
	const char *name = NULL;
	bool named = false;
	int status;

	for (int i = 0; i < argc; i++)
		named = named || strcmp(argv[i], "--json");
	status = kmtls_options_parse(cli, argc, argv, NULL, named ? names : NULL, &name);
	if (status)
		return status;
	if (name)
		arguments = json_pack("{s:o}", "name", kmtls_json_string(name));
	status = kmtls_client_call(cli, "settings-get", arguments, KMTLS_CLIENT_SECONDS, &result);
	return status ? status : show(cli, result);
}

int kmtls_cmd_settings_set(struct kmtls_cli *cli, int argc, char **argv)
{
	static const char *const names[] = { "NAME", "VALUE", NULL };
	__cleanup_json json_t *result = NULL;
	const char *operands[2];
	int status = kmtls_options_parse(cli, argc, argv, NULL, names, operands);

	if (!status)
		status = kmtls_client_call(cli, "settings-set",
					   json_pack("{s:o, s:o}", "name",
						     kmtls_json_string(operands[0]), "value",
						     kmtls_json_string(operands[1])),
					   KMTLS_CLIENT_SECONDS, &result);
	return status ? status : show(cli, result);
}
