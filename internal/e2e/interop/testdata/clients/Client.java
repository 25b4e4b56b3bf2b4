import java.sql.DriverManager;

/** Connects with the JDBC URL, user and password in its arguments, and prints whether the session is encrypted. */
public class Client {
    public static void main(String[] args) throws Exception {
        try (var connection = DriverManager.getConnection(args[0], args[1], args[2]);
                var statement = connection.createStatement();
                var result = statement.executeQuery("select ssl from pg_stat_ssl where pid = pg_backend_pid()")) {
            result.next();
            System.out.println(result.getString(1));
        } catch (Exception e) {
            for (Throwable t = e; t != null; t = t.getCause()) {
                System.err.println(t.getMessage());
            }
            System.exit(1);
        }
    }
}
